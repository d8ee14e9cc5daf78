//! The request's side of an exchange.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use selvedge_wire::ProtocolError;

use crate::flow::{Flow, FlowFault};

/// What the client did that ends its exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientFault {
    /// It went away.
    Gone,
    /// The rest of its request did not come in time.
    Stalled,
    /// The rest of its request is none.
    Malformed(ProtocolError),
}

/// The request on its way out, and then a look at whether the client is still there. Is polled along
/// with whatever the response is waited for.
pub(crate) struct Sending<'s, F> {
    future: Pin<&'s mut F>,
    /// Whether there is nothing more to be polled.
    over: bool,
}

/// Sends a request, sets `all_sent` behind its last byte, and never ends but with a fault.
pub(crate) async fn send(request: &mut Flow<'_>, all_sent: &Cell<bool>) -> FlowFault {
    if let Err(fault) = request.run().await {
        return fault;
    }
    all_sent.set(true);
    request.watch().await;
    FlowFault::Cut
}

impl<'s, F: Future<Output = FlowFault>> Sending<'s, F> {
    pub(crate) fn new(future: Pin<&'s mut F>) -> Self {
        Self {
            future,
            over: false,
        }
    }

    /// Waits for `work`, which is about the response, while the request goes on. An endpoint that
    /// takes no more of the request may have answered already, so that this alone ends nothing.
    pub(crate) async fn along<T>(
        &mut self,
        mut work: Pin<&mut impl Future<Output = T>>,
    ) -> Result<T, ClientFault> {
        poll_fn(|cx| {
            if !self.over
                && let Poll::Ready(fault) = self.future.as_mut().poll(cx)
            {
                self.over = true;
                match fault {
                    FlowFault::Cut => return Poll::Ready(Err(ClientFault::Gone)),
                    FlowFault::Malformed(error) => {
                        return Poll::Ready(Err(ClientFault::Malformed(error)));
                    }
                    FlowFault::Write => {}
                }
            }
            work.as_mut().poll(cx).map(Ok)
        })
        .await
    }
}
