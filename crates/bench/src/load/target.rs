//! Where a load goes.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An `http` URL (RFC 9110, section 4.2.1), or its authority alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Host and, where it is not 80, port.
    pub authority: String,
    /// Path and query; begins with a slash.
    pub path: String,
}

/// A text that names no target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MalformedTarget(String);

impl fmt::Display for MalformedTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = &self.0;
        write!(
            f,
            "`{text}` is no target; write http://HOST:PORT/PATH, or HOST:PORT"
        )
    }
}

impl std::error::Error for MalformedTarget {}

impl FromStr for Target {
    type Err = MalformedTarget;

    fn from_str(text: &str) -> Result<Self, MalformedTarget> {
        let rest = text.strip_prefix("http://").unwrap_or(text);
        let path = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(path);
        let is_sound = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
        let is_scheme = path.starts_with("//") && authority.ends_with(':');
        if authority.is_empty() || is_scheme || !rest.bytes().all(is_sound) {
            return Err(MalformedTarget(text.to_owned()));
        }
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Self {
            authority: authority.to_owned(),
            path: format!("{slash}{path}"),
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.path)
    }
}

impl Target {
    /// The first address that the C library has for it.
    pub(crate) fn resolve(&self) -> io::Result<SocketAddr> {
        let has_port = self
            .authority
            .rsplit_once(':')
            .is_some_and(|(_, port)| !port.is_empty() && !port.contains(']'));
        let mut found = match has_port {
            true => self.authority.to_socket_addrs()?,
            false => format!("{}:80", self.authority.trim_end_matches(':')).to_socket_addrs()?,
        };
        found
            .next()
            .ok_or_else(|| io::Error::other("the name has no address"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_urls_or_authorities() {
        for (text, authority, path) in [
            ("http://cart:80/items?id=4", "cart:80", "/items?id=4"),
            ("127.0.0.1:8080", "127.0.0.1:8080", "/"),
            ("http://[::1]?x", "[::1]", "/?x"),
        ] {
            let target: Target = text.parse().unwrap();
            assert_eq!((&*target.authority, &*target.path), (authority, path));
        }
        for text in ["", "http://", "https://cart/", "a b:80", "/items"] {
            let error = text.parse::<Target>().unwrap_err();
            assert!(error.to_string().contains("http://HOST:PORT"), "{text}");
        }
    }

    #[test]
    fn the_port_is_80_where_none_is_named() {
        for (text, address) in [
            ("127.0.0.1", "127.0.0.1:80"),
            ("[::1]/x", "[::1]:80"),
            ("[::1]:8080", "[::1]:8080"),
        ] {
            let target: Target = text.parse().unwrap();
            assert_eq!(target.resolve().unwrap().to_string(), address);
        }
    }
}
