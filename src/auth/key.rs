//! One key and the one algorithm that it is for.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, VerificationAlgorithm,
};
use jsonwebtoken::DecodingKey;

/// What signs a token here. Each key is for exactly one (RFC 8725 §3.1), so a token cannot choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-256 and a secret that both sides know (RFC 7518 §3.2).
    Hs256,
    /// RSASSA-PKCS1-v1_5 with SHA-256 (RFC 7518 §3.3).
    Rs256,
    /// ECDSA with P-256 and SHA-256 (RFC 7518 §3.4).
    Es256,
    /// Ed25519 (RFC 8037 §3.1).
    EdDsa,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Hs256, Self::Rs256, Self::Es256, Self::EdDsa];

    /// Its name in a token's header and in a JWK.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }

    pub(super) fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    pub(super) fn of_header(algorithm: jsonwebtoken::Algorithm) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.in_header() == algorithm)
    }

    pub(super) fn in_header(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::Hs256 => jsonwebtoken::Algorithm::HS256,
            Self::Rs256 => jsonwebtoken::Algorithm::RS256,
            Self::Es256 => jsonwebtoken::Algorithm::ES256,
            Self::EdDsa => jsonwebtoken::Algorithm::EdDSA,
        }
    }
}

impl std::fmt::Display for Algorithm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A key that tokens are checked with, known to be usable.
pub(super) struct Key {
    pub(super) algorithm: Algorithm,
    /// Its name in tokens (RFC 7515 §4.1.4); `None` if the file gives it none.
    pub(super) id: Option<Box<str>>,
    pub(super) material: DecodingKey,
}

impl Key {
    /// `None` if it is shorter than [`SECRET_BYTES_MIN`].
    pub(super) fn secret(secret: &[u8]) -> Option<Self> {
        let long_enough = secret.len() >= SECRET_BYTES_MIN;
        long_enough.then(|| Self::new(Algorithm::Hs256, DecodingKey::from_secret(secret)))
    }

    /// From a SubjectPublicKeyInfo (RFC 5280 §4.1). `None` if it is damaged or for no algorithm of ours.
    pub(super) fn public(der: &[u8]) -> Option<Self> {
        let usable = |algorithm: &'static dyn VerificationAlgorithm| ParsedPublicKey::new(algorithm, der).is_ok();
        if usable(&RSA_PKCS1_2048_8192_SHA256) {
            rsa_size_is_right(der).then(|| Self::new(Algorithm::Rs256, DecodingKey::from_rsa_der(der)))
        } else if usable(&ECDSA_P256_SHA256_FIXED) {
            Some(Self::new(Algorithm::Es256, DecodingKey::from_ec_der(der)))
        } else if usable(&ED25519) {
            Some(Self::new(Algorithm::EdDsa, DecodingKey::from_ed_der(der)))
        } else {
            None
        }
    }

    /// From modulus and exponent, big-endian (RFC 7518 §6.3.1).
    pub(super) fn rsa(n: &[u8], e: &[u8]) -> Option<Self> {
        // Some issuers write the zero that DER puts before a high bit. RFC 7518 has none, and nor has the library.
        let (n, e) = (n.strip_prefix(&[0]).unwrap_or(n), e.strip_prefix(&[0]).unwrap_or(e));
        Self::public(PublicKeyComponents { n, e }.as_der().ok()?.as_ref())
    }

    /// From the coordinates of a point on P-256 (RFC 7518 §6.2.1).
    pub(super) fn p256(x: &[u8; 32], y: &[u8; 32]) -> Option<Self> {
        let point = [&[UNCOMPRESSED], &x[..], &y[..]].concat();
        let on_curve = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &point).is_ok();
        on_curve.then(|| Self::new(Algorithm::Es256, DecodingKey::from_ec_der(&point)))
    }

    /// From an encoded point of Ed25519 (RFC 8037 §2).
    pub(super) fn ed25519(x: &[u8; 32]) -> Option<Self> {
        let usable = ParsedPublicKey::new(&ED25519, &x[..]).is_ok();
        usable.then(|| Self::new(Algorithm::EdDsa, DecodingKey::from_ed_der(x)))
    }

    fn new(algorithm: Algorithm, material: DecodingKey) -> Self {
        Self { algorithm, id: None, material }
    }
}

/// The library looks at the size only when it checks a signature; a key that never can is refused at the start.
fn rsa_size_is_right(der: &[u8]) -> bool {
    aws_lc_rs::rsa::PublicKey::from_der(der).is_ok_and(|key| (2048 / 8..=8192 / 8).contains(&key.modulus_len()))
}

/// A key must be at least as long as the hash (RFC 7518 §3.2).
pub const SECRET_BYTES_MIN: usize = 32;

/// First byte of a point that is written with both coordinates (SEC 1 §2.3.3).
const UNCOMPRESSED: u8 = 4;
