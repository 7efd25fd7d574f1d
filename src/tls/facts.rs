//! What a handshake agreed on.

/// What the handshake agreed on, and whom it met.
///
/// Everything is `None`, empty or `false` until the handshake has come so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFacts {
    /// The version of the protocol.
    pub version: Option<TlsVersion>,
    /// The cipher suite, by its IANA name: `"TLS13_AES_256_GCM_SHA384"`.
    pub cipher_suite: Option<&'static str>,
    /// The application protocol, if one was negotiated (RFC 7301). `http/1.1`, or nothing.
    pub alpn: Option<String>,
    /// The name that the client asked for (RFC 6066 §3), in lower case. Server role only.
    pub sni: Option<String>,
    /// Whether the handshake resumed an earlier session by its ticket.
    pub resumed: bool,
    /// The peer's certificates in DER, its own first. As server: empty unless a client CA is set.
    pub peer_chain: Vec<Vec<u8>>,
}

/// A version of TLS. Older ones are not spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}
