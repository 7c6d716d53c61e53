//! Where a node is reached.
//!
//! Invariant: an [`Address`] is a valid `host:port`, so that equal ones share one connection.

use std::{fmt, sync::Arc};

use tonic::transport::Uri;

/// The port of an endpoint that names none: the one that nodes serve clients on.
const DEFAULT_PORT: u16 = 7400;

/// A node's `host:port`. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Address(Arc<str>);

/// Why a text is no address of a node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It is not `host:port`.
    #[error("endpoint {text:?} is not an address: write host:port, such as 10.0.0.7:7400")]
    Malformed {
        /// What was given.
        text: String,
    },
    /// It names a protocol that is not spoken.
    #[error("endpoint {text:?} asks for {scheme:?}: only http is supported; write host:port")]
    Scheme {
        /// What was given.
        text: String,
        /// Its scheme.
        scheme: String,
    },
}

impl Address {
    /// Reads `host:port`, `host` or `http://host:port`.
    pub(crate) fn parse(text: &str) -> Result<Self, AddressError> {
        let malformed = || AddressError::Malformed {
            text: text.to_owned(),
        };
        let uri: Uri = text.trim().parse().map_err(|_| malformed())?;
        match uri.scheme_str() {
            None | Some("http") => {}
            Some(scheme) => {
                return Err(AddressError::Scheme {
                    text: text.to_owned(),
                    scheme: scheme.to_owned(),
                });
            }
        }
        let authority = uri.authority().ok_or_else(malformed)?;
        let host = authority.host();
        let rest = uri.path_and_query().map_or("/", |path| path.as_str());
        let port = match authority.port_u16() {
            Some(port) => port,
            None if authority.as_str() == host => DEFAULT_PORT,
            // A user, or a port that is none.
            None => return Err(malformed()),
        };
        if host.is_empty() || !matches!(rest, "" | "/") {
            return Err(malformed());
        }
        Ok(Self(format!("{host}:{port}").into()))
    }

    #[cfg(test)]
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_brought_to_one_form() {
        for (text, want) in [
            ("127.0.0.1:7400", "127.0.0.1:7400"),
            ("http://node-1:80/", "node-1:80"),
            ("node-1", "node-1:7400"),
            (" [::1]:9 ", "[::1]:9"),
        ] {
            assert_eq!(Address::parse(text).unwrap().as_str(), want, "{text:?}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "a b",
            ":7400",
            "host:",
            "host:99999",
            "http://h:1/path",
            "/x",
        ] {
            let error = Address::parse(text).unwrap_err();
            assert!(
                matches!(error, AddressError::Malformed { .. }),
                "{text:?}: {error}"
            );
        }
        let error = Address::parse("https://node-1:7400").unwrap_err();
        assert!(matches!(error, AddressError::Scheme { .. }), "{error}");
    }
}
