//! Names of services and namespaces: DNS labels, as Kubernetes has them (RFC 1123, section 2.1).

use alloc::borrow::ToOwned;
use alloc::string::String;
use core::fmt;
use core::str::FromStr;

/// One DNS label: 1 to 63 characters out of `a-z`, `0-9` and `-`, neither first nor last a `-`.
///
/// Names are lower case by construction, so that comparing them is comparing bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(String);

impl Label {
    /// Longest label in bytes (RFC 1035, section 2.3.4).
    pub const MAX_BYTES: usize = 63;

    /// Checks `text` and keeps it.
    pub fn new(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > Self::MAX_BYTES {
            return Err(NameError::TooLong { bytes: text.len() });
        }
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if let Some(wrong) = text.chars().find(|c| !c.is_ascii() || !allowed(*c as u8)) {
            return Err(NameError::Character { wrong });
        }
        if text.starts_with('-') || text.ends_with('-') {
            return Err(NameError::Hyphen);
        }
        Ok(Self(text.to_owned()))
    }

    /// The namespace of objects that name none.
    pub fn default_namespace() -> Self {
        Self("default".to_owned())
    }

    /// The label as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl FromStr for Label {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

/// The full name of a service. Text form: `cart.default`; a bare `cart` is in namespace `default`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName {
    /// The namespace the service lives in.
    pub namespace: Label,
    /// The service's own name.
    pub name: Label,
}

impl ServiceName {
    /// Joins the two parts.
    pub fn new(namespace: Label, name: Label) -> Self {
        Self { namespace, name }
    }

    /// Reads `name` or `name.namespace`; a bare name is put into `namespace`.
    pub fn parse_in(namespace: &Label, text: &str) -> Result<Self, NameError> {
        match text.split_once('.') {
            None => Ok(Self::new(namespace.clone(), Label::new(text)?)),
            Some((name, namespace)) => Ok(Self::new(Label::new(namespace)?, Label::new(name)?)),
        }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.name, self.namespace)
    }
}

impl FromStr for ServiceName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse_in(&Label::default_namespace(), text)
    }
}

/// Why a text is not a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Nothing was there.
    #[error("a name must not be empty")]
    Empty,
    /// Longer than a DNS label may be.
    #[error("a name has at most 63 characters, this one has {bytes}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// A character that no DNS label of ours has.
    #[error("a name has only a-z, 0-9 and '-', not {wrong:?}")]
    Character {
        /// The first such character.
        wrong: char,
    },
    /// First or last character is a hyphen.
    #[error("a name neither starts nor ends with '-'")]
    Hyphen,
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn labels_are_dns_labels() {
        let long = "a".repeat(64);
        for (text, want) in [
            ("cart", Ok(())),
            ("9lives", Ok(())),
            ("a-b", Ok(())),
            ("", Err(NameError::Empty)),
            ("-a", Err(NameError::Hyphen)),
            ("a-", Err(NameError::Hyphen)),
            ("Cart", Err(NameError::Character { wrong: 'C' })),
            ("ca_rt", Err(NameError::Character { wrong: '_' })),
            ("é", Err(NameError::Character { wrong: 'é' })),
            (&long, Err(NameError::TooLong { bytes: 64 })),
        ] {
            assert_eq!(Label::new(text).map(|_| ()), want, "{text:?}");
        }
    }

    #[test]
    fn service_names_read_back_as_printed() {
        let bare: ServiceName = "cart".parse().unwrap();
        assert_eq!(bare.to_string(), "cart.default");
        let full: ServiceName = "cart.shop".parse().unwrap();
        assert_eq!(full.to_string().parse::<ServiceName>().unwrap(), full);
        assert!("cart.shop.svc".parse::<ServiceName>().is_err());
    }
}
