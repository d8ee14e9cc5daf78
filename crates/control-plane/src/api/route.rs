//! What can be asked for, and who may ask.
//!
//! | request | who | what |
//! |---|---|---|
//! | `GET /v1/objects?kind=&namespace=&name=` | readers | objects, with status |
//! | `POST /v1/apply` | root; readers a dry run | create or replace objects, or only judge them |
//! | `DELETE /v1/objects?kind=&namespace=&name=` | root | delete one object |
//! | `GET /v1/status`, `GET /v1/graph`, `GET /metrics` | readers | see |
//! | `GET /v1/pilot`, `GET /v1/pilot/journal?service=&last=&all` | readers | what controllers do |
//! | `POST /v1/pilot/freeze`, `/undo`, `/release` | root | have limits stay, and go on |
//! | `POST /v1/run` | by leave | place the asking process as a replica |
//! | `POST /v1/run/failed` | everybody, of itself | say that the program could not be started |
//! | `POST /v1/down` | root | stop the node |

use std::error::Error;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Body, Bytes};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::{Api, Down, PATIENCE, PROBLEMS, identity, objects, pilot, run};
use crate::host::Peer;
use crate::metrics::Metrics;
use crate::problem::{Problem, ProblemKind};
use crate::wire::{ApplyMode, ApplyRequest, DownRequest, RunRequest};
use crate::{graph, status};

/// Longest body of an apply: a set of documents.
const MAX_DOCUMENTS: usize = 64 << 20;
/// Longest body of any other request.
const MAX_BODY: usize = 256 << 10;

/// How long the proxy may take to tell what it has seen: some 100 times what 10,000 routes take.
const TRAFFIC_PATIENCE: Duration = Duration::from_secs(2);

/// A response of ours.
pub(super) type Answer = Response<Full<Bytes>>;

impl Api {
    /// Serves one request.
    pub(super) async fn respond<B>(&self, peer: &Peer, request: Request<B>) -> Answer
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        match self.route(peer, request).await {
            Ok(answer) => answer,
            Err(problem) => {
                PROBLEMS.increment();
                let status = StatusCode::from_u16(problem.kind.status());
                let mut answer = json(&problem);
                *answer.status_mut() = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                answer
            }
        }
    }

    async fn route<B>(&self, peer: &Peer, request: Request<B>) -> Result<Answer, Problem>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let path = request.uri().path().to_owned();
        let query = request.uri().query().unwrap_or_default().to_owned();
        match (request.method(), path.as_str()) {
            (&Method::GET, "/v1/objects") => {
                self.check_reader(peer)?;
                Ok(json(&objects::list(self, &query)?))
            }
            (&Method::DELETE, "/v1/objects") => {
                check_root(peer, "delete objects")?;
                Ok(json(&objects::delete(self, &query).await?))
            }
            (&Method::POST, "/v1/apply") => {
                self.check_reader(peer)?;
                let wanted: ApplyRequest = read(request, MAX_DOCUMENTS).await?;
                if wanted.mode == ApplyMode::Apply {
                    check_root(peer, "change the configuration")?;
                }
                Ok(json(&objects::apply(self, wanted).await?))
            }
            (&Method::GET, "/v1/status") => {
                self.check_reader(peer)?;
                self.ask_traffic().await;
                Ok(json(&status::report(self)))
            }
            (&Method::GET, "/v1/graph") => {
                self.check_reader(peer)?;
                self.ask_traffic().await;
                let observation = self.host.observe()?;
                let traffic = self.proxy.borrow().traffic.clone();
                let view = self.plane.view();
                Ok(json(&graph::report(&view.snapshot, &observation, &traffic)))
            }
            (&Method::GET, "/metrics") => {
                self.check_reader(peer)?;
                self.ask_traffic().await;
                Ok(text(Metrics::from(self).exposition()))
            }
            (&Method::GET, "/v1/pilot") => {
                self.check_reader(peer)?;
                Ok(json(&pilot::report(self)))
            }
            (&Method::GET, "/v1/pilot/journal") => {
                self.check_reader(peer)?;
                Ok(json(&pilot::journal(self, &query).await?))
            }
            (&Method::POST, "/v1/pilot/freeze") => {
                check_root(peer, "freeze limits")?;
                let wanted = read(request, MAX_BODY).await?;
                Ok(json(&pilot::freeze(self, wanted).await?))
            }
            (&Method::POST, "/v1/pilot/release") => {
                check_root(peer, "release limits")?;
                let wanted = read(request, MAX_BODY).await?;
                Ok(json(&pilot::release(self, wanted).await?))
            }
            (&Method::POST, "/v1/pilot/undo") => {
                check_root(peer, "undo decisions")?;
                let wanted = read(request, MAX_BODY).await?;
                Ok(json(&pilot::undo(self, wanted).await?))
            }
            (&Method::POST, "/v1/run") => {
                let wanted: RunRequest = read(request, MAX_BODY).await?;
                Ok(json(&run::run(self, peer, wanted).await?))
            }
            (&Method::POST, "/v1/run/failed") => Ok(json(&run::failed(self, peer).await?)),
            (&Method::POST, "/v1/down") => {
                check_root(peer, "stop the node")?;
                let wanted: DownRequest = read(request, MAX_BODY).await?;
                self.stop(wanted).await
            }
            (method, _) => Err(unknown(method, &path)),
        }
    }

    /// Has the proxy tell what it has seen of requests. One that is away or slow is not waited for, and
    /// what it told last counts.
    async fn ask_traffic(&self) {
        let mut asked = 0;
        self.traffic.send_modify(|number| {
            *number += 1;
            asked = *number;
        });
        let mut proxy = self.proxy.clone();
        let told = proxy.wait_for(|health| !health.is_connected || health.traffic_asked >= asked);
        let _slow = timeout(TRAFFIC_PATIENCE, told).await;
    }

    /// Whether the peer may see.
    fn check_reader(&self, peer: &Peer) -> Result<(), Problem> {
        let is_reader = |group: u32| {
            peer.gid == group
                || identity::of(peer)
                    .groups
                    .iter()
                    .any(|(gid, _)| *gid == group)
        };
        if peer.is_root() || self.readers.is_some_and(is_reader) {
            return Ok(());
        }
        Err(Problem::new(
            ProblemKind::Forbidden,
            "only root and members of the group `selvedge` may see the mesh",
        )
        .try_next("usermod -a -G selvedge USER (takes effect at the next login)"))
    }

    async fn stop(&self, request: DownRequest) -> Result<Answer, Problem> {
        let stopping = || Problem::new(ProblemKind::Unavailable, "the agent is stopping already");
        let (reply, answer) = oneshot::channel();
        let sent = self.down.send(Down { request, reply }).await;
        sent.map_err(|_| stopping())?;
        Ok(json(&answer.await.map_err(|_| stopping())??))
    }
}

fn check_root(peer: &Peer, what: &str) -> Result<(), Problem> {
    if peer.is_root() {
        return Ok(());
    }
    let message = format!("only root may {what}; you are user {}", peer.uid);
    Err(Problem::new(ProblemKind::Forbidden, message).try_next("run the command with sudo"))
}

fn unknown(method: &Method, path: &str) -> Problem {
    Problem::new(
        ProblemKind::NotFound,
        format!("there is no {method} {path}"),
    )
    .because("client and agent are of different versions")
    .try_next("compare `selvedge --version` with the version in `selvedge status`")
}

/// Reads a JSON body within its bound.
async fn read<T, B>(request: Request<B>, max: usize) -> Result<T, Problem>
where
    T: DeserializeOwned,
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let body = Limited::new(request.into_body(), max).collect();
    let collected = timeout(PATIENCE, body).await.map_err(|_| {
        Problem::new(
            ProblemKind::Invalid,
            format!("the body did not come within {PATIENCE:?}"),
        )
    })?;
    let body = collected.map_err(|_| {
        Problem::new(
            ProblemKind::TooLarge,
            format!("the body is cut or longer than {max} bytes"),
        )
    })?;
    serde_json::from_slice(&body.to_bytes()).map_err(|error| {
        Problem::new(
            ProblemKind::Invalid,
            format!("the body is not what is read here: {error}"),
        )
        .because("client and agent are of different versions")
    })
}

/// A JSON answer. Our own types always have a JSON form.
fn json(value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(body) => answer(StatusCode::OK, "application/json", body),
        Err(error) => answer(
            StatusCode::INTERNAL_SERVER_ERROR,
            "text/plain; charset=utf-8",
            error.to_string().into_bytes(),
        ),
    }
}

fn text(body: String) -> Answer {
    let kind = selvedge_telemetry::Exposition::CONTENT_TYPE;
    answer(StatusCode::OK, kind, body.into_bytes())
}

fn answer(status: StatusCode, kind: &'static str, body: Vec<u8>) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    let kind = HeaderValue::from_static(kind);
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}
