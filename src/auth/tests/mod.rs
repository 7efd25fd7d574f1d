//! Tokens made here, by hand and with the crypto library alone, so that maker and reader share no code.

mod files;
mod tokens;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
    RsaPublicKeyComponents,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{Algorithm, KeyFormat, KeySet, Policy, UnixSeconds, Verifier};

/// Somebody who signs tokens with one key.
enum Signer {
    Hs256(Vec<u8>),
    Rs256(Box<RsaKeyPair>),
    Es256(Box<EcdsaKeyPair>),
    EdDsa(Ed25519KeyPair),
}

impl Signer {
    fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Hs256 => Self::Hs256(SECRET.to_vec()),
            Algorithm::Rs256 => Self::Rs256(Box::new(RsaKeyPair::generate(KeySize::Rsa2048).unwrap())),
            Algorithm::Es256 => {
                Self::Es256(Box::new(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()))
            }
            Algorithm::EdDsa => Self::EdDsa(Ed25519KeyPair::generate().unwrap()),
        }
    }

    fn algorithm(&self) -> Algorithm {
        match self {
            Self::Hs256(_) => Algorithm::Hs256,
            Self::Rs256(_) => Algorithm::Rs256,
            Self::Es256(_) => Algorithm::Es256,
            Self::EdDsa(_) => Algorithm::EdDsa,
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Hs256(secret) => hmac_sha256(secret, message),
            Self::Rs256(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
                signature
            }
            Self::Es256(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::EdDsa(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    /// A token whose header has `kid` if there is one.
    fn token(&self, kid: Option<&str>, claims: &Value) -> String {
        let mut header = json!({ "typ": "JWT", "alg": self.algorithm().name() });
        if let Some(kid) = kid {
            header["kid"] = kid.into();
        }
        self.token_of(&header.to_string(), &claims.to_string())
    }

    /// A token with any header at all.
    fn token_of(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", base64url(header), base64url(claims));
        let signature = base64url(self.sign(message.as_bytes()));
        format!("{message}.{signature}")
    }

    /// Its public key as a SubjectPublicKeyInfo.
    fn public_der(&self) -> Vec<u8> {
        let der = match self {
            Self::Hs256(_) => panic!("a secret is not public"),
            Self::Rs256(pair) => pair.public_key().as_der(),
            Self::Es256(pair) => pair.public_key().as_der(),
            Self::EdDsa(pair) => pair.public_key().as_der(),
        };
        der.unwrap().as_ref().to_vec()
    }

    /// The text of a key file, of the usual format.
    fn key_file(&self) -> (Vec<u8>, KeyFormat) {
        match self {
            Self::Hs256(secret) => (secret.clone(), KeyFormat::Secret),
            Self::Rs256(_) | Self::Es256(_) | Self::EdDsa(_) => {
                (pem("PUBLIC KEY", &self.public_der()).into_bytes(), KeyFormat::Pem)
            }
        }
    }

    /// Its key as a member of a JWKS.
    fn jwk(&self, kid: Option<&str>) -> Value {
        let mut jwk = match self {
            Self::Hs256(secret) => json!({ "kty": "oct", "k": base64url(secret) }),
            Self::Rs256(pair) => {
                let public = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
                json!({ "kty": "RSA", "n": base64url(public.n), "e": base64url(public.e) })
            }
            Self::Es256(pair) => {
                let point = pair.public_key().as_ref();
                json!({ "kty": "EC", "crv": "P-256", "x": base64url(&point[1..33]), "y": base64url(&point[33..]) })
            }
            Self::EdDsa(pair) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": base64url(pair.public_key().as_ref()) })
            }
        };
        if let Some(kid) = kid {
            jwk["kid"] = kid.into();
        }
        jwk
    }

    /// Somebody who knows its key, and asks for nothing but `exp` and `sub`.
    fn verifier(&self) -> Verifier {
        self.verifier_with(Policy::default())
    }

    fn verifier_with(&self, policy: Policy) -> Verifier {
        let (text, format) = self.key_file();
        Verifier::new(KeySet::from_text("keys", &text, format).unwrap(), policy)
    }
}

fn hmac_sha256(secret: &[u8], message: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message).as_ref().to_vec()
}

fn jwks(keys: &[Value]) -> KeySet {
    KeySet::from_text("jwks", json!({ "keys": keys }).to_string().as_bytes(), KeyFormat::Jwks).unwrap()
}

fn pem(label: &str, der: &[u8]) -> String {
    let encoded = STANDARD.encode(der);
    let lines: Vec<_> = encoded.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Good claims of a user `ada`, expiring ten minutes after [`NOW`].
fn ada() -> Value {
    json!({ "sub": "ada", "exp": NOW.0 + 600 })
}

/// `claims` with some of them replaced; `null` takes one out.
fn with(mut claims: Value, changes: Value) -> Value {
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => claims.as_object_mut().unwrap().remove(name),
            _ => claims.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    claims
}

const NOW: UnixSeconds = UnixSeconds(1_800_000_000);
const SECRET: &[u8] = b"an example of a secret that is long enough";
