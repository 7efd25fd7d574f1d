//! JSON Web Tokens, made by hand: maker and reader share no code.

use std::time::SystemTime;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use corewire::auth::{KeyFormat, KeySet, Policy, Verifier};
use serde_json::{Value, json};

/// What the servers of these tests check tokens with.
pub const SECRET: &[u8] = b"a secret of more than 32 bytes, which only tests may have";
pub const OTHER_SECRET: &[u8] = b"another secret of more than 32 bytes, which nobody here uses";

/// With the secret and the default policy.
pub fn verifier() -> Verifier {
    verifier_with(Policy::default())
}

pub fn verifier_with(policy: Policy) -> Verifier {
    Verifier::new(KeySet::from_text("secret", SECRET, KeyFormat::Secret).expect("a good secret"), policy)
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs()
}

/// Signed with [`SECRET`], good for ten minutes unless the claims say otherwise.
pub fn token(claims: Value) -> String {
    signed_with(SECRET, r#"{"alg":"HS256","typ":"JWT"}"#, claims)
}

/// With any header and any secret.
pub fn signed_with(secret: &[u8], header: &str, mut claims: Value) -> String {
    if claims.get("exp").is_none() {
        claims["exp"] = json!(now() + 600);
    }
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims.to_string()));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// A key of Ed25519 with a name.
pub struct KeyPair {
    id: String,
    pair: Ed25519KeyPair,
}

impl KeyPair {
    pub fn new(id: &str) -> Self {
        Self { id: id.to_owned(), pair: Ed25519KeyPair::generate().expect("a key") }
    }

    /// The public half, as a member of a JWK set.
    pub fn jwk(&self) -> Value {
        json!({"kty": "OKP", "crv": "Ed25519", "kid": self.id, "x": URL_SAFE_NO_PAD.encode(self.pair.public_key())})
    }

    /// Good for ten minutes.
    pub fn token(&self, mut claims: Value) -> String {
        claims["exp"] = json!(now() + 600);
        let header = json!({"alg": "EdDSA", "kid": self.id}).to_string();
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims.to_string()));
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(self.pair.sign(message.as_bytes())))
    }
}
