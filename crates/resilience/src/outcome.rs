//! What becomes of an attempt, and what follows from that.

use selvedge_model::{Instant, Withheld};

/// How an attempt went, as the one who made it saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What happened.
    pub kind: OutcomeKind,
    /// The caller's word that sending the request again is safe now: it was never sent, or it is
    /// idempotent (RFC 9110, section 9.2.2) or its route allows it; its body can be sent again; and
    /// the client has got no byte of a response. What is not repeatable is never sent again.
    pub repeatable: bool,
}

/// What happened to an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutcomeKind {
    /// A response, with its status.
    Answered {
        /// 200 to 599.
        status: u16,
    },
    /// No connection was made: nothing was sent.
    ConnectFailed,
    /// A reused connection was closed before any byte of the response: as a rule one that the endpoint
    /// was closing just then because it was idle, so that nothing speaks against the endpoint.
    Stale,
    /// The connection ended before a whole response.
    Cut,
    /// What came is no HTTP response.
    Malformed,
    /// The attempt's time, or the request's, was over.
    TimedOut,
    /// The caller gave up: the client went away, or another attempt was quicker.
    Cancelled,
}

/// How a response ended whose head had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With its last byte.
    Complete,
    /// The endpoint closed the connection before that.
    Cut,
    /// Its framing was broken.
    Malformed,
    /// The attempt's time, or the request's, was over.
    TimedOut,
    /// The caller gave up.
    Cancelled,
}

/// What to do after an attempt.
///
/// [`OutcomeKind::ConnectFailed`] and [`OutcomeKind::Stale`] are moved to another endpoint at once, two
/// of them in one request at most, and so is one [`OutcomeKind::Cut`] where there is no retry policy. A
/// policy retries the statuses it names, and all failures that are not moved, after a pause and out of
/// the upstream's budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "it says whether to send again"]
pub enum Verdict {
    /// Give the client what the attempt came to.
    Deliver {
        /// Why there is no retry, where one was wanted.
        withheld: Option<Withheld>,
    },
    /// Make another attempt.
    Retry {
        /// Not before this moment.
        at: Instant,
    },
}

impl Ending {
    /// What it is as an outcome; none where it is what the head promised.
    pub(crate) const fn fault(self) -> Option<OutcomeKind> {
        match self {
            Self::Complete => None,
            Self::Cut => Some(OutcomeKind::Cut),
            Self::Malformed => Some(OutcomeKind::Malformed),
            Self::TimedOut => Some(OutcomeKind::TimedOut),
            Self::Cancelled => Some(OutcomeKind::Cancelled),
        }
    }
}
