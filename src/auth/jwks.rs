//! Sets of JSON Web Keys (RFC 7517 §5).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::key::{Algorithm, Key, SECRET_BYTES_MIN};
use super::key_error::KeyError;

/// The keys of `text` that check signatures here. Others are passed over (RFC 7517 §5), damaged ones refused.
pub(super) fn read(file: &str, text: &[u8]) -> Result<Vec<Key>, KeyError> {
    // Into a `Value` nothing can fail but the syntax, and errors of syntax quote nothing of the file.
    let set: Value = serde_json::from_slice(text).map_err(|error| KeyError::NotJson {
        file: file.to_owned(),
        line: error.line(),
        column: error.column(),
    })?;
    let Some(keys) = set.get("keys").and_then(Value::as_array) else {
        return Err(KeyError::Field {
            file: file.to_owned(),
            field: "keys".to_owned(),
            expected: "an array of keys, in an object (RFC 7517 §5)",
        });
    };
    let read = |(index, jwk): (usize, &Value)| match jwk.as_object() {
        Some(members) => Jwk { file, index, members }.read().transpose(),
        None => Some(Err(Jwk { file, index, members: &Map::new() }.wrong("", "an object"))),
    };
    keys.iter().enumerate().filter_map(read).collect()
}

/// One key of a set.
struct Jwk<'a> {
    file: &'a str,
    index: usize,
    members: &'a Map<String, Value>,
}

impl Jwk<'_> {
    /// `None` if it is not for checking signatures, or for another algorithm.
    fn read(&self) -> Result<Option<Key>, KeyError> {
        let kind = self.text("kty")?.ok_or_else(|| self.wrong("kty", "a key type"))?;
        if self.text("use")?.is_some_and(|usage| usage != "sig") || !self.is_for_verifying()? {
            return Ok(None);
        }
        let algorithm = match (kind, self.text("crv")?) {
            ("oct", _) => Algorithm::Hs256,
            ("RSA", _) => Algorithm::Rs256,
            ("EC", Some("P-256")) => Algorithm::Es256,
            ("OKP", Some("Ed25519")) => Algorithm::EdDsa,
            _ => return Ok(None),
        };
        if self.text("alg")?.is_some_and(|name| Algorithm::of_name(name) != Some(algorithm)) {
            return Ok(None);
        }
        if algorithm != Algorithm::Hs256 && self.members.contains_key("d") {
            return Err(self.wrong("d", "no private key here: only who signs tokens needs it"));
        }
        let mut key = match algorithm {
            Algorithm::Hs256 => self.secret()?,
            Algorithm::Rs256 => self.rsa()?,
            Algorithm::Es256 => self.p256()?,
            Algorithm::EdDsa => self.ed25519()?,
        };
        key.id = self.text("kid")?.map(Box::from);
        Ok(Some(key))
    }

    /// `key_ops`, where it stands, must contain `verify` (RFC 7517 §4.3).
    fn is_for_verifying(&self) -> Result<bool, KeyError> {
        match self.members.get("key_ops") {
            None => Ok(true),
            Some(Value::Array(operations)) => Ok(operations.iter().any(|operation| operation == "verify")),
            Some(_) => Err(self.wrong("key_ops", "an array")),
        }
    }

    fn secret(&self) -> Result<Key, KeyError> {
        const _: () = assert!(SECRET_BYTES_MIN == 32);
        Key::secret(&self.bytes("k")?).ok_or_else(|| self.wrong("k", "at least 32 bytes (RFC 7518 §3.2)"))
    }

    fn rsa(&self) -> Result<Key, KeyError> {
        let (n, e) = (self.bytes("n")?, self.bytes("e")?);
        Key::rsa(&n, &e).ok_or_else(|| self.wrong("n", "with `e`, a key of 2048 to 8192 bits"))
    }

    fn p256(&self) -> Result<Key, KeyError> {
        Key::p256(&self.coordinate("x")?, &self.coordinate("y")?)
            .ok_or_else(|| self.wrong("x", "with `y`, a point on the curve P-256"))
    }

    fn ed25519(&self) -> Result<Key, KeyError> {
        Key::ed25519(&self.coordinate("x")?).ok_or_else(|| self.wrong("x", "a public key of Ed25519"))
    }

    fn coordinate(&self, member: &str) -> Result<[u8; 32], KeyError> {
        self.bytes(member)?.try_into().map_err(|_| self.wrong(member, "32 bytes in base64url without padding"))
    }

    fn bytes(&self, member: &str) -> Result<Vec<u8>, KeyError> {
        let text = self.text(member)?;
        text.and_then(|text| URL_SAFE_NO_PAD.decode(text).ok())
            .filter(|bytes| !bytes.is_empty())
            .ok_or_else(|| self.wrong(member, "bytes in base64url without padding"))
    }

    fn text(&self, member: &str) -> Result<Option<&str>, KeyError> {
        match self.members.get(member) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(member, "a string")),
        }
    }

    fn wrong(&self, member: &str, expected: &'static str) -> KeyError {
        let dot = if member.is_empty() { "" } else { "." };
        KeyError::Field { file: self.file.to_owned(), field: format!("keys[{}]{dot}{member}", self.index), expected }
    }
}
