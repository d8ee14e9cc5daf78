//! Asking the agent: one request over its control socket.
//!
//! Blocking, since a command does one thing at a time; the process that asks is the one the agent
//! sees as its peer. Every failure is a [`Problem`] that says what to do next.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use selvedge_control_plane::{Problem, ProblemKind};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout};

use crate::lock::Lock;

/// The socket's name in the folder of sockets.
const SOCKET: &str = "api.sock";
/// How long the agent may take to answer. Ending many workloads takes longest.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long an agent that starts may take to listen, and how often it is tried.
const STARTING: Duration = Duration::from_secs(10);
const GLANCE: Duration = Duration::from_millis(20);
/// Longest answer that is read.
const MAX_ANSWER: usize = 1 << 30;

/// Reads something.
pub(crate) fn get<T: DeserializeOwned>(run_dir: &Path, path: &str) -> anyhow::Result<T> {
    Ok(Agent::of(run_dir).request(Method::GET, path, Vec::new())?)
}

/// Asks for something to be done.
pub(crate) fn post<T: DeserializeOwned>(
    run_dir: &Path,
    path: &str,
    body: &impl Serialize,
) -> anyhow::Result<T> {
    Ok(Agent::of(run_dir).request(Method::POST, path, serde_json::to_vec(body)?)?)
}

/// Removes something.
pub(crate) fn delete<T: DeserializeOwned>(run_dir: &Path, path: &str) -> anyhow::Result<T> {
    Ok(Agent::of(run_dir).request(Method::DELETE, path, Vec::new())?)
}

/// Whether this error is that no agent runs.
pub(crate) fn is_absent(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<Problem>()
        .is_some_and(|problem| problem.what == ABSENT)
}

/// What is said of an agent that does not run.
const ABSENT: &str = "no agent is running";

/// An agent's control socket.
struct Agent {
    run_dir: PathBuf,
    socket: PathBuf,
}

impl Agent {
    /// The agent that keeps its sockets in `run_dir`.
    fn of(run_dir: &Path) -> Self {
        Self {
            run_dir: run_dir.to_owned(),
            socket: run_dir.join(SOCKET),
        }
    }

    fn request<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<T, Problem> {
        let answer = self.ask(method, path, body)?;
        serde_json::from_slice(&answer).map_err(|error| self.garbled(&error))
    }

    fn ask(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Bytes, Problem> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.map_err(|error| self.broken(&error))?;
        let asked = async {
            let stream = self.connect().await?;
            self.exchange(stream, method, path, body).await
        };
        match runtime.block_on(async { timeout(PATIENCE, asked).await }) {
            Ok(answer) => answer,
            Err(_) => Err(self.silent()),
        }
    }

    /// An agent that has begun to start is waited for. One that has not is not there.
    async fn connect(&self) -> Result<UnixStream, Problem> {
        let until = Instant::now() + STARTING;
        loop {
            let error = match UnixStream::connect(&self.socket).await {
                Ok(stream) => return Ok(stream),
                Err(error) => error,
            };
            let is_absent = matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            );
            if !is_absent || !Lock::is_held(&self.run_dir) {
                return Err(self.unreachable(&error));
            }
            if Instant::now() >= until {
                return Err(self.silent());
            }
            sleep(GLANCE).await;
        }
    }

    async fn exchange(
        &self,
        stream: UnixStream,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<Bytes, Problem> {
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(|error| self.garbled(&error))?;
        let headers = request.headers_mut();
        headers.insert(HOST, HeaderValue::from_static("selvedge"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| self.broken(&error))?;
        let answer = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER)
                .collect()
                .await;
            Ok::<_, hyper::Error>((status, body))
        };
        // The connection is driven here beside the request and ends with it.
        tokio::pin!(connection);
        let answered = tokio::select! {
            answered = answer => answered,
            ended = &mut connection => match ended {
                Err(error) => Err(error),
                Ok(()) => return Err(self.silent()),
            },
        };
        let (status, body) = answered.map_err(|error| self.broken(&error))?;
        let body = body.map_err(|error| self.broken(&*error))?.to_bytes();
        if status == StatusCode::OK {
            return Ok(body);
        }
        Err(serde_json::from_slice(&body).unwrap_or_else(|_| {
            let what = format!("the agent answered {status}");
            Problem::new(ProblemKind::Failed, what).at(self.place())
        }))
    }

    fn place(&self) -> String {
        self.socket.display().to_string()
    }

    fn unreachable(&self, error: &io::Error) -> Problem {
        let problem = match error.kind() {
            io::ErrorKind::PermissionDenied => {
                Problem::new(ProblemKind::Forbidden, "you may not ask the agent")
                    .because("only root and members of the group `selvedge` may")
                    .try_next("use sudo, or: usermod -a -G selvedge USER, and log in again")
            }
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                Problem::new(ProblemKind::Unavailable, ABSENT)
                    .because("it was not started, or it keeps its sockets in another --run-dir")
                    .try_next("sudo selvedge up")
            }
            _ => Problem::new(
                ProblemKind::Failed,
                format!("cannot reach the agent: {error}"),
            ),
        };
        problem.at(self.place())
    }

    fn silent(&self) -> Problem {
        Problem::new(ProblemKind::Unavailable, "the agent does not answer")
            .at(self.place())
            .try_next("look at its log: journalctl -u selvedge")
    }

    fn broken(&self, error: &dyn std::error::Error) -> Problem {
        let what = format!("the conversation with the agent broke off: {error}");
        Problem::new(ProblemKind::Failed, what)
            .at(self.place())
            .because("the agent is stopping or has ended")
            .try_next("selvedge status")
    }

    fn garbled(&self, error: &dyn std::error::Error) -> Problem {
        let what = format!("agent and command do not understand each other: {error}");
        Problem::new(ProblemKind::Failed, what)
            .at(self.place())
            .because("they are of different versions")
            .try_next("restart the agent, so that it runs the installed version")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_agent_is_a_problem_with_a_next_step() {
        let folder = std::env::temp_dir().join("selvedge-nobody-is-here");
        let error = get::<serde_json::Value>(&folder, "/v1/status").unwrap_err();
        assert!(is_absent(&error));
        let problem = error.downcast::<Problem>().unwrap();
        assert!(problem.place.ends_with("selvedge-nobody-is-here/api.sock"));
        assert_eq!(problem.next, "sudo selvedge up");
    }
}
