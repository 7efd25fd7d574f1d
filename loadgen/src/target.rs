//! Whom to load: a URL, and the address behind it.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};

/// A server, as `ws://`, `wss://` or `tcp://` names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// How it is spoken to.
    pub(crate) scheme: Scheme,
    /// Name or address, as it stands in the URL, without brackets.
    pub(crate) host: String,
    /// The port.
    pub(crate) port: u16,
    /// Path and query.
    pub(crate) path: String,
}

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// WebSocket.
    Ws,
    /// WebSocket within TLS.
    Wss,
    /// Frames as a client writes them, without any handshake: for a server that echoes bytes and knows nothing.
    Tcp,
}

/// Why a URL cannot be loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TargetError {
    /// Not a URL of ours.
    #[error("`{url}` is no URL of a WebSocket server: {why}. An example: ws://127.0.0.1:8080/")]
    Malformed {
        /// What was given.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The name has no address.
    #[error("`{host}` cannot be resolved: {why}")]
    Unresolved {
        /// The name.
        host: String,
        /// The resolver's words.
        why: String,
    },
    /// Off this machine, and nobody said that this is all right.
    #[error(
        "{address} is not on this machine. A load test against a host that is not yours is an attack; \
         if it is yours, say --i-may-load-this-host"
    )]
    NotLoopback {
        /// Where it would have gone.
        address: SocketAddr,
    },
}

impl Target {
    /// Reads a URL.
    ///
    /// # Errors
    ///
    /// [`TargetError::Malformed`], with what is wrong.
    pub(crate) fn parse(url: &str) -> Result<Self, TargetError> {
        let wrong = |why| TargetError::Malformed { url: url.to_owned(), why };
        let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong("it does not begin with ws:// or wss://"))?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "ws" => Scheme::Ws,
            "wss" => Scheme::Wss,
            "tcp" => Scheme::Tcp,
            _ => return Err(wrong("it does not begin with ws://, wss:// or tcp://")),
        };
        let authority_len = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(authority_len);
        if authority.contains('@') {
            return Err(wrong("a user name has no place in it"));
        }
        if path.contains('#') {
            return Err(wrong("a fragment has no place in it"));
        }
        let path = match path {
            "" => "/".to_owned(),
            query if query.starts_with('?') => format!("/{query}"),
            path => path.to_owned(),
        };
        let (host, port) = split_authority(authority).ok_or_else(|| wrong("host and port are not host:port"))?;
        let port = match (port, scheme) {
            ("", Scheme::Ws) => 80,
            ("", Scheme::Wss) => 443,
            ("", Scheme::Tcp) => return Err(wrong("tcp:// needs a port")),
            (port, _) => port.parse().map_err(|_| wrong("the port is no number up to 65535"))?,
        };
        if host.is_empty() || port == 0 {
            return Err(wrong("host or port is missing"));
        }
        Ok(Self { scheme, host: host.to_owned(), port, path })
    }

    /// The address to connect to.
    ///
    /// # Errors
    ///
    /// If there is none, or it is not on this machine and `anywhere` is false.
    pub(crate) fn resolve(&self, anywhere: bool) -> Result<SocketAddr, TargetError> {
        let unresolved = |why: String| TargetError::Unresolved { host: self.host.clone(), why };
        let mut addresses =
            (self.host.as_str(), self.port).to_socket_addrs().map_err(|error| unresolved(error.to_string()))?;
        let address = addresses.next().ok_or_else(|| unresolved("it has no address".to_owned()))?;
        if !anywhere && !address.ip().is_loopback() {
            return Err(TargetError::NotLoopback { address });
        }
        Ok(address)
    }

    /// Path and query with one more part in the query.
    pub(crate) fn path_with(&self, part: &str) -> String {
        let join = if self.path.contains('?') { '&' } else { '?' };
        format!("{}{join}{part}", self.path)
    }

    /// What goes into the Host header field.
    pub(crate) fn host_field(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.scheme, self.port) {
            (Scheme::Ws, 80) | (Scheme::Wss, 443) => host,
            (Scheme::Ws | Scheme::Wss | Scheme::Tcp, port) => format!("{host}:{port}"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Ws => "ws",
            Scheme::Wss => "wss",
            Scheme::Tcp => "tcp",
        };
        write!(f, "{scheme}://{}{}", self.host_field(), self.path)
    }
}

/// Host and port, with brackets taken off an IPv6 address.
fn split_authority(authority: &str) -> Option<(&str, &str)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        return match rest {
            "" => Some((host, "")),
            rest => rest.strip_prefix(':').map(|port| (host, port)),
        };
    }
    match authority.split_once(':') {
        None => Some((authority, "")),
        Some((_, port)) if port.contains(':') => None,
        Some(parts) => Some(parts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_are_good() {
        let cases = [
            ("ws://127.0.0.1:9001", Scheme::Ws, "127.0.0.1", 9001, "/", "127.0.0.1:9001"),
            ("wss://a.example/x?y=z", Scheme::Wss, "a.example", 443, "/x?y=z", "a.example"),
            ("WS://localhost?q", Scheme::Ws, "localhost", 80, "/?q", "localhost"),
            ("ws://[::1]:8080/c", Scheme::Ws, "::1", 8080, "/c", "[::1]:8080"),
            ("tcp://127.0.0.1:7", Scheme::Tcp, "127.0.0.1", 7, "/", "127.0.0.1:7"),
        ];
        for (url, scheme, host, port, path, field) in cases {
            let target = Target::parse(url).unwrap();
            let want = Target { scheme, host: host.to_owned(), port, path: path.to_owned() };
            assert_eq!(target, want, "{url}");
            assert_eq!(target.host_field(), field, "{url}");
        }
    }

    #[test]
    fn urls_that_are_not() {
        let bad =
            ["", "127.0.0.1:80", "http://x/", "ws://", "ws://:80", "ws://x:0", "ws://x:99999", "ws://u@x/", "tcp://x"];
        for url in bad.into_iter().chain(["ws://a:b:c", "ws://[::1", "ws://[::1]80", "ws://x/#f"]) {
            assert!(matches!(Target::parse(url), Err(TargetError::Malformed { .. })), "{url}");
        }
    }

    #[test]
    fn only_this_machine_unless_told() {
        let near = Target::parse("ws://127.8.9.1:80").unwrap();
        assert!(near.resolve(false).is_ok());
        let far = Target::parse("ws://192.0.2.1:80").unwrap();
        assert!(matches!(far.resolve(false), Err(TargetError::NotLoopback { .. })));
        assert!(far.resolve(true).is_ok());
    }
}
