//! The subcommands, one module each.

pub(crate) mod apply;
pub(crate) mod bench;
pub(crate) mod check;
pub(crate) mod delete;
pub(crate) mod demo;
pub(crate) mod down;
pub(crate) mod enter;
pub(crate) mod get;
pub(crate) mod graph;
pub(crate) mod pilot;
pub(crate) mod proxy;
pub(crate) mod run;
pub(crate) mod sim;
pub(crate) mod status;
pub(crate) mod up;
