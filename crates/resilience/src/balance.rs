//! Choosing among endpoints.

mod draw;
mod least_request;

pub(crate) use draw::Draw;
pub(crate) use least_request::{Load, lighter};
