//! Accepting connections on a socket that the agent may exchange for another.

use std::io;
use std::time::Duration;

use selvedge_feed::Counter;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::counters::Counters;

/// Gives connections to `admit` until `retired`; what is queued then is still accepted.
pub(crate) async fn accept(
    listener: TcpListener,
    counters: &Counters,
    mut retired: oneshot::Receiver<()>,
    mut admit: impl FnMut(TcpStream),
) -> io::Result<()> {
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => admit(stream),
                // Out of descriptors: connections wait in the queue until some are given back.
                Err(error) if is_exhaustion(&error) => {
                    counters.count(Counter::AcceptPauses);
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                // It is about that one connection (accept(2), "Error handling").
                Err(error) if is_passing(&error) => {}
                Err(error) => return Err(error),
            },
            _ = &mut retired => break,
        }
    }
    // Asked of the kernel itself: the runtime may not have heard of what came just now.
    let listener = listener.into_std()?;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(true)?;
                admit(TcpStream::from_std(stream)?);
            }
            Err(error) if is_passing(&error) => {}
            Err(_) => return Ok(()),
        }
    }
}

/// Whether another connection may be had.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNABORTED
                | libc::EPROTO
                | libc::EPERM
                | libc::ENETDOWN
                | libc::ENETUNREACH
                | libc::EHOSTDOWN
                | libc::EHOSTUNREACH
                | libc::ENONET
                | libc::ENOPROTOOPT
                | libc::EOPNOTSUPP
        )
    )
}

/// Whether it is this process or host that has nothing left.
pub(crate) fn is_exhaustion(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_queued_on_a_retired_socket_is_accepted() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let _queued = [(); 3].map(|()| std::net::TcpStream::connect(address).unwrap());
        let (retire, retired) = oneshot::channel();
        drop(retire);
        let mut accepted = 0;
        let listener = TcpListener::from_std(listener).unwrap();
        let counters = Counters::default();
        let served = accept(listener, &counters, retired, |_| accepted += 1);
        served.await.unwrap();
        assert_eq!(accepted, 3);
    }
}
