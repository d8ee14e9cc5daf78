//! Services and whom they call.

use alloc::string::String;
use alloc::vec::Vec;

use crate::ServiceTime;

/// A service of a scenario.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// How many replicas serve it.
    pub replicas: u32,
    /// Requests that a replica works on at once. The rest wait in the order they came.
    pub permits: u32,
    /// Most that wait at one replica; one more is answered 503 at once.
    pub queue: u32,
    /// How long its own work takes.
    pub time: ServiceTime,
    /// Whom it calls when its own work is done, one step after the other. Meanwhile its permit is
    /// another's. Where a call fails it answers 503 and takes no further step.
    pub calls: Vec<Step>,
    /// What its program passes on with these.
    pub forwards: Forwards,
    /// What each request takes on its way to it, and each answer on its way back; none is no time.
    pub link: Option<ServiceTime>,
}

/// What a program passes on of a request with the calls that it makes for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Forwards {
    /// The trace (W3C Trace Context, `traceparent`).
    #[default]
    Traces,
    /// Nothing: nobody can tell what a call is for.
    Nothing,
}

/// Services, by their place, that are called at once.
pub type Step = Vec<usize>;
