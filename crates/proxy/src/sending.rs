//! The request's side of an exchange.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

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
    all_sent: &'s Cell<bool>,
    starves: &'s Cell<bool>,
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
    /// The cells are those of the [`send`] and of its [`Flow`].
    pub(crate) fn new(
        future: Pin<&'s mut F>,
        all_sent: &'s Cell<bool>,
        starves: &'s Cell<bool>,
    ) -> Self {
        Self {
            future,
            all_sent,
            starves,
            over: false,
        }
    }

    /// Whether the request is on its way to its last byte.
    pub(crate) fn has_sent_all(&self) -> bool {
        self.all_sent.get()
    }

    /// Whether the next thing to come is more of the request.
    pub(crate) fn waits_for_client(&self) -> bool {
        !self.has_sent_all() && !self.over && self.starves.get()
    }

    /// Waits for `work`, which is about the response, while the request goes on. An endpoint that
    /// takes no more of the request may have answered already, so that this alone ends nothing.
    pub(crate) async fn along<T>(
        &mut self,
        mut work: Pin<&mut impl Future<Output = T>>,
    ) -> Result<T, ClientFault> {
        poll_fn(|cx| {
            if self.has_sent_all() {
                // All that is left is to see the client go: not worth a look where the work is done.
                return match work.as_mut().poll(cx) {
                    Poll::Ready(done) => Poll::Ready(Ok(done)),
                    Poll::Pending => self.poll(cx).map(Err),
                };
            }
            match self.poll(cx) {
                Poll::Ready(fault) => Poll::Ready(Err(fault)),
                Poll::Pending => work.as_mut().poll(cx).map(Ok),
            }
        })
        .await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ClientFault> {
        if self.over {
            return Poll::Pending;
        }
        let fault = ready!(self.future.as_mut().poll(cx));
        self.over = true;
        match fault {
            FlowFault::Cut => Poll::Ready(ClientFault::Gone),
            FlowFault::Malformed(error) => Poll::Ready(ClientFault::Malformed(error)),
            FlowFault::Write => Poll::Pending,
        }
    }
}
