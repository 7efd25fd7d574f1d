//! The opening handshake (RFC 6455 §4), both ends of it.
//!
//! Knows heads and what they must say. Does not know when they come or what becomes of the connection.

mod client;
mod origin;
mod refusal;
mod server;
mod tokens;

pub use client::{ClientHandshake, ClientHandshakeError, RESPONSE_BYTES_MAX, ResponseProgress};
pub use origin::OriginPolicy;
pub use refusal::Refusal;
pub use server::{PROTOCOLS_MAX, UpgradeRequest, check_upgrade, write_accept};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

/// The value of `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key` (RFC 6455 §4.2.2): base64, so ASCII.
pub fn accept_key(key: &[u8]) -> [u8; ACCEPT_LEN] {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    let mut accept = [0; ACCEPT_LEN];
    let written = STANDARD.encode_slice(digest, &mut accept);
    debug_assert_eq!(written, Ok(ACCEPT_LEN));
    accept
}

/// Length of a `Sec-WebSocket-Accept`: 20 bytes of SHA-1 in base64.
pub const ACCEPT_LEN: usize = 28;
/// Bytes of a key before base64 (RFC 6455 §4.1).
pub const KEY_LEN: usize = 16;

/// RFC 6455 §1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The only version there is (RFC 6455 §4.1).
const VERSION: &str = "13";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_6455_section_1_3() {
        assert_eq!(&accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
