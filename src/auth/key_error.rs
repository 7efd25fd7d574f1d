//! Why a key file is refused.

use std::io;

use thiserror::Error;

use super::key::SECRET_BYTES_MIN;
use super::keys::KEYS_MAX;

/// Why key files cannot be used: which file, where in it, and what would be right. Never holds key material.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The file cannot be read.
    #[error("cannot read {file}: {source}")]
    Unreadable {
        /// Path of the file.
        file: String,
        /// What the kernel says.
        source: io::Error,
    },
    /// The file is longer than any that holds keys.
    #[error("{file} has more than {max} bytes: is it the right file?")]
    TooLarge {
        /// Path of the file.
        file: String,
        /// The limit in bytes.
        max: u64,
    },
    /// A block of PEM is damaged.
    #[error("{file}, line {line}: the PEM block that begins here is damaged; was the file cut short or edited?")]
    DamagedPem {
        /// Path of the file.
        file: String,
        /// Where the block begins.
        line: usize,
    },
    /// A private key where a public one belongs.
    #[error(
        "{file}, line {line}: a private key; tokens are checked with the public one \
         (`openssl pkey -in {file} -pubout`), and only who signs them needs this"
    )]
    PrivateKeyPem {
        /// Path of the file.
        file: String,
        /// Where the block begins.
        line: usize,
    },
    /// PEM of a kind that is not read here.
    #[error(
        "{file}, line {line}: expected `-----BEGIN PUBLIC KEY-----`, found another kind of PEM \
         (of a certificate: `openssl x509 -in {file} -pubkey -noout`)"
    )]
    OtherPem {
        /// Path of the file.
        file: String,
        /// Where the block begins.
        line: usize,
    },
    /// A well-formed public key of a kind or size that is not used here.
    #[error("{file}, line {line}: expected a public key of RSA with 2048 to 8192 bits, of ECDSA P-256, or Ed25519")]
    UnusablePem {
        /// Path of the file.
        file: String,
        /// Where the block begins.
        line: usize,
    },
    /// A secret that can be guessed (RFC 7518 §3.2).
    #[error(
        "the secret in {file} has {bytes} bytes; HS256 needs at least {SECRET_BYTES_MIN} \
         (`openssl rand -base64 48 > {file}`)"
    )]
    SecretTooShort {
        /// Path of the file.
        file: String,
        /// Its length, without white space around it.
        bytes: usize,
    },
    /// A public key given as a secret: whoever knows it, and that is everybody, could sign tokens.
    #[error("{file} holds a key, not a secret: configure it as what it is, a PEM file or a JWKS file")]
    SecretIsKey {
        /// Path of the file.
        file: String,
    },
    /// Not JSON.
    #[error("{file}, line {line}, column {column}: not JSON here; a JWKS file is expected (RFC 7517 §5)")]
    NotJson {
        /// Path of the file.
        file: String,
        /// Counted from one.
        line: usize,
        /// Counted from one, in bytes.
        column: usize,
    },
    /// A field of the JWKS has a value that it cannot have.
    #[error("{file}, field {field}: expected {expected}")]
    Field {
        /// Path of the file.
        file: String,
        /// As in `keys[1].n`.
        field: String,
        /// What would be right.
        expected: &'static str,
    },
    /// The file is in order and holds nothing that checks tokens.
    #[error("{file} holds no key for HS256, RS256, ES256 or EdDSA")]
    NoKey {
        /// Path of the file.
        file: String,
    },
    /// Two keys for one algorithm have the same `kid`.
    #[error("{file}: two keys for {algorithm} have the same `kid`")]
    SameKeyId {
        /// Path of the file that holds the second one.
        file: String,
        /// What both are for.
        algorithm: super::Algorithm,
    },
    /// A token without a `kid` is tried with all keys of its algorithm, so they are few.
    #[error("{file}: more than {KEYS_MAX} keys in all")]
    TooManyKeys {
        /// Path of the file that holds one too many.
        file: String,
    },
}
