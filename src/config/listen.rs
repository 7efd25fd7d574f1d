//! Where a listener stands: a TCP address or the path of a Unix socket.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;

/// Where a listener stands.
///
/// Written `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080` or `unix:/run/corewire.sock`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddr {
    /// An address and a port; port 0 lets the kernel choose.
    Tcp(SocketAddr),
    /// A Unix stream socket.
    Unix {
        /// Path of the socket, 1 to 107 bytes.
        path: PathBuf,
    },
}

impl FromStr for ListenAddr {
    /// What is wrong, as a sentence.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some(path) => unix_path(path).map(|path| Self::Unix { path }),
            None => tcp_addr(text).map(Self::Tcp),
        }
    }
}

impl fmt::Display for ListenAddr {
    /// In the form that `FromStr` reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Unix { path } => write!(f, "unix:{}", path.display()),
        }
    }
}

/// An address with a port. A name is resolved here and now, to its first IPv4 address if it has one: which family
/// `localhost` comes to first differs between machines, and a machine may have no IPv6 although its hosts file has.
pub(super) fn tcp_addr(text: &str) -> Result<SocketAddr, String> {
    if let Ok(addr) = text.parse() {
        return Ok(addr);
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(without_port(text));
    };
    if port.parse::<u16>().is_err() {
        return Err(format!("`{port}` is not a port from 0 to 65535"));
    }
    match host {
        "" | "*" => {
            Err(format!("it names no host; write 0.0.0.0:{port} for every IPv4 address, [::]:{port} for every address"))
        }
        _ if host.contains(':') => Err(format!("an IPv6 address stands in brackets; perhaps [{host}]:{port}")),
        _ => resolve(host, text),
    }
}

fn without_port(text: &str) -> String {
    if text.parse::<u16>().is_ok() {
        format!("it names no host; write 127.0.0.1:{text} or 0.0.0.0:{text}")
    } else {
        format!("it has no port; write for example {text}:8080")
    }
}

fn resolve(host: &str, text: &str) -> Result<SocketAddr, String> {
    let found: Vec<SocketAddr> =
        text.to_socket_addrs().map_err(|error| format!("the name `{host}` cannot be resolved: {error}"))?.collect();
    let preferred = found.iter().find(|addr| addr.is_ipv4()).or(found.first());
    preferred.copied().ok_or_else(|| format!("the name `{host}` has no address"))
}

fn unix_path(path: &str) -> Result<PathBuf, String> {
    if path.is_empty() {
        Err("the path after unix: is empty".to_owned())
    } else if path.starts_with('@') {
        Err("abstract Unix sockets are not supported; give a path".to_owned())
    } else if path.contains('\0') {
        Err("the path after unix: contains a zero byte".to_owned())
    } else if path.len() > UNIX_PATH_BYTES_MAX {
        Err(format!("the path has {} bytes; the kernel takes at most {UNIX_PATH_BYTES_MAX}", path.len()))
    } else {
        Ok(PathBuf::from(path))
    }
}

/// `sockaddr_un` holds 108 bytes, the last one zero (unix(7)).
const UNIX_PATH_BYTES_MAX: usize = 107;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_round_trip() {
        for text in [
            "127.0.0.1:8080",
            "0.0.0.0:0",
            "[::1]:8080",
            "[fe80::1%2]:80",
            "unix:/run/corewire.sock",
            "unix:relative.sock",
        ] {
            let addr: ListenAddr = text.parse().expect(text);
            assert_eq!(addr.to_string(), text);
        }
    }

    #[test]
    fn localhost_resolves_to_a_loopback_address() {
        let addr = tcp_addr("localhost:8080").expect("every machine knows localhost");
        assert!(addr.ip().is_loopback());
        assert_eq!(addr.port(), 8080);
    }

    #[test]
    fn a_wrong_address_says_what_to_write() {
        let long = format!("unix:/{}", "x".repeat(UNIX_PATH_BYTES_MAX));
        let cases = [
            ("8080", "write 127.0.0.1:8080"),
            (":8080", "write 0.0.0.0:8080"),
            ("*:8080", "[::]:8080"),
            ("127.0.0.1", "has no port"),
            ("::1:8080", "perhaps [::1]:8080"),
            ("127.0.0.1:70000", "`70000` is not a port"),
            ("127.0.0.1:http", "`http` is not a port"),
            ("unix:", "is empty"),
            ("unix:@name", "abstract"),
            (&long, "at most 107"),
            ("no-such-host.invalid:80", "`no-such-host.invalid` cannot be resolved"),
        ];
        for (text, want) in cases {
            let got = text.parse::<ListenAddr>().expect_err(text);
            assert!(got.contains(want), "{text}: {got}");
        }
    }
}
