//! The node: kernel programs, workloads and the proxy's supervision.
//!
//! Holds everything that touches the kernel. It is told what is wanted as a `model::Snapshot`, and
//! tells what it sees as `model::Observation` and [`Event`]s; it never reads configuration and never
//! parses bytes from the network. Read next: `kernel` (loading and adopting), `intent` and `apply`
//! (where traffic goes), `bpf/connect.bpf.c` (the direct path itself).
#![forbid(unsafe_code)]

mod abi;
mod apply;
mod cgroup;
mod counters;
mod ending;
mod error;
mod event;
mod held;
mod intent;
mod kernel;
mod neighbour;
mod node;
mod object;
mod sockets;
mod supervise;
mod watch;

pub use ending::{Asked, Whom};
pub use error::Error;
pub use event::Event;
pub use node::{Node, Options, Remains};
pub use sockets::{Beside, make_sockets, open_metrics};
pub use supervise::{Link, ProxyOptions, ProxyUser, Sockets, end, living_proxy, supervise};
pub use watch::Events;
