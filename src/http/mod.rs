//! HTTP/1.1 request heads, plain replies and forwarded addresses (RFC 9112, RFC 7239 in spirit).
//!
//! Knows no sockets, no WebSocket and no topics.
