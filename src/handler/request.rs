//! Who comes, and with what.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::http::RequestHead;
use crate::protocol::handshake::UpgradeRequest;

/// Who asks, and for what.
pub struct Request<'a> {
    pub(crate) head: &'a RequestHead<'a>,
    pub(crate) upgrade: Option<&'a UpgradeRequest<'a>>,
    pub(crate) peer: Peer,
    pub(crate) client: Option<IpAddr>,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<crate::tls::TlsFacts>,
}

/// The other end of the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A TCP connection.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}

impl<'a> Request<'a> {
    /// Method, target and headers.
    pub fn head(&self) -> &RequestHead<'a> {
        self.head
    }

    /// The path of the target, without the query.
    pub fn path(&self) -> &str {
        self.head.path()
    }

    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header_str(name)
    }

    /// The subprotocols that the peer offers, in its order of preference; none if it asks for no WebSocket.
    pub fn subprotocols(&self) -> impl Iterator<Item = &str> {
        self.upgrade.into_iter().flat_map(|upgrade| upgrade.protocols())
    }

    /// The other end of the socket: the proxy, if there is one.
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// The address of the client itself: what a trusted proxy says, or else the peer's. `None` for a Unix socket
    /// whose proxy says nothing.
    pub fn client(&self) -> Option<IpAddr> {
        self.client
    }

    /// What is known about the TLS session, if there is one.
    #[cfg(feature = "tls")]
    pub fn tls(&self) -> Option<&crate::tls::TlsFacts> {
        self.tls.as_ref()
    }
}
