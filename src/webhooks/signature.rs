//! Proves to a back end who has sent a request, and when: HMAC-SHA256 over the time and the body.

use std::fmt;

use aws_lc_rs::hmac;

/// What the server and its back end know, and nobody else.
#[derive(Clone)]
pub struct Secret(hmac::Key);

/// Shortest secret in bytes.
pub const SECRET_BYTES_MIN: usize = 16;

/// A secret that could be guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the secret has {bytes} bytes, and must have at least {SECRET_BYTES_MIN}; `openssl rand -hex 32` makes a good one"
)]
pub struct SecretTooShort {
    /// How many there are.
    pub bytes: usize,
}

impl Secret {
    /// From the bytes of a file; white space around them does not count.
    ///
    /// # Errors
    ///
    /// If there are fewer than [`SECRET_BYTES_MIN`].
    pub fn new(bytes: &[u8]) -> Result<Self, SecretTooShort> {
        let bytes = bytes.trim_ascii();
        if bytes.len() < SECRET_BYTES_MIN {
            return Err(SecretTooShort { bytes: bytes.len() });
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, bytes)))
    }

    /// The value of the header: `t=` and the time in seconds since 1970, `,v1=` and the code in hexadecimal digits,
    /// over the time in decimal digits, a full stop, and the body.
    pub(super) fn sign(&self, unix_seconds: u64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(unix_seconds.to_string().as_bytes());
        context.update(b".");
        context.update(body);
        let code: String = context.sign().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("t={unix_seconds},v1={code}")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The header's name.
pub(super) const HEADER: &str = "corewire-signature";

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with Python: `hmac.new(b"a secret of some length", b"1700000000.{}", "sha256").hexdigest()`.
    #[test]
    fn as_other_libraries_compute_it() {
        let secret = Secret::new(b" a secret of some length\n").unwrap();
        let signed = secret.sign(1_700_000_000, b"{}");
        assert_eq!(signed, "t=1700000000,v1=9008b8e96ac884fb56cbbbb39d8c4b578c2c6de7951cbcce7f1f18311f3cd9f2");
        assert_ne!(secret.sign(1_700_000_001, b"{}")[13..], signed[13..]);
        assert_ne!(secret.sign(1_700_000_000, b"[]"), signed);
    }

    #[test]
    fn what_could_be_guessed_is_refused() {
        assert_eq!(Secret::new(b"\n  short \n").unwrap_err(), SecretTooShort { bytes: 5 });
        assert!(Secret::new(&[b'x'; SECRET_BYTES_MIN]).is_ok());
        assert!(!format!("{:?}", Secret::new(b"a secret of some length").unwrap()).contains("length"));
    }
}
