//! `selvedge bench`: what the mesh costs and what it survives, measured on this machine, in one run,
//! against no mesh and against the programs a user would pick instead.
//!
//! It drives the built binary as a user does (`selvedge up`, `run`, `apply`) and never links another
//! plane. Every ratio is of two figures taken moments apart on the same CPU, in random order; what
//! could not be measured is said, never left out. The programs that carry the load are this same
//! binary as `selvedge bench-worker`: they know nothing of a mesh. Read next: `measure.rs` (what is
//! measured), `crew.rs` (how workers are driven), `report.rs` (how a figure is judged).
#![forbid(unsafe_code)]

mod alarm;
mod cgroup;
mod chaos;
mod clock;
mod crew;
mod duration;
mod interrupt;
mod load;
mod measure;
mod mesh;
mod options;
mod parallel;
mod plants;
mod poll;
mod process;
mod program_time;
mod protocol;
mod provenance;
mod random;
mod replica;
mod report;
mod rivals;
mod scenarios;
mod serve;
mod spread;
mod stream;
mod sweep;
mod what_if;
mod worker;

pub use chaos::{ChaosRow, chaos};
pub use clock::fresh_seed;
pub use duration::{duration, service_time};
pub use interrupt::Interrupted;
pub use load::{
    Arrivals, Latency, LoadOptions, LoadReport, MalformedTarget, Outcomes, Pace, Target, load,
};
pub use measure::{LIVE_POLICIES, LiveOptions, LivePolicy, live, run};
pub use options::{BenchOptions, Measure, Proxy, UnknownMeasure};
pub use plants::{GRID, PlantFigures, PlantRow, plant, plants};
pub use replica::{Forwarded, ReplicaOptions, ReplicaReport, perform};
pub use scenarios::{ScenarioFileError, scenario, scenarios};
pub use serve::{OriginOptions, OriginReport, serve};
pub use sweep::{SweepOptions, Swept, SweptRun, sweep};
pub use what_if::{Answer, Change, Figures, Interval, what_if};
pub use worker::run as run_worker;
