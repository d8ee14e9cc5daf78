//! The twins of Gateways, and of what routes say of them.

use alloc::string::String;
use alloc::vec::Vec;

use super::Name;

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Gateway {
    #[prost(message, required, tag = "1")]
    pub(crate) name: Name,
    #[prost(message, repeated, tag = "2")]
    pub(crate) listeners: Vec<Listener>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Listener {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(uint32, tag = "2")]
    pub(crate) port: u32,
    #[prost(string, optional, tag = "3")]
    pub(crate) hostname: Option<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Parent {
    #[prost(message, required, tag = "1")]
    pub(crate) gateway: Name,
    #[prost(string, optional, tag = "2")]
    pub(crate) section: Option<String>,
    #[prost(uint32, optional, tag = "3")]
    pub(crate) port: Option<u32>,
}
