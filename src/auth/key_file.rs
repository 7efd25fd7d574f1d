//! Files with keys: a secret, public keys in PEM, or a JWKS.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject;

use super::jwks;
use super::key::{Key, SECRET_BYTES_MIN};
use super::key_error::KeyError;

/// A file that keys are read from, and again at a reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFile {
    /// Where it is.
    pub path: PathBuf,
    /// What it holds. Not guessed: a public key that passes for a secret would let everybody sign (RFC 8725 §2.1).
    pub format: KeyFormat,
}

/// What a key file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFormat {
    /// The bytes of one secret for HS256; white space around them does not count.
    Secret,
    /// Public keys in PEM (RFC 7468 §13), for RS256, ES256 or EdDSA.
    Pem,
    /// A JWK set (RFC 7517 §5). Keys for other uses and algorithms are passed over.
    Jwks,
}

/// Text of keys and the name that errors call it by.
pub(super) struct KeyText<'a> {
    /// A path, or a description if the text came from memory.
    pub(super) file: String,
    pub(super) text: std::borrow::Cow<'a, [u8]>,
}

impl KeyText<'_> {
    pub(super) fn read(file: &KeyFile) -> Result<Self, KeyError> {
        let name = file.path.display().to_string();
        let mut text = Vec::new();
        let read = File::open(&file.path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text));
        match read {
            Ok(len) if len as u64 > FILE_BYTES_MAX => Err(KeyError::TooLarge { file: name, max: FILE_BYTES_MAX }),
            Ok(_) => Ok(Self { file: name, text: text.into() }),
            Err(source) => Err(KeyError::Unreadable { file: name, source }),
        }
    }

    /// At least one key.
    pub(super) fn keys(&self, format: KeyFormat) -> Result<Vec<Key>, KeyError> {
        let keys = match format {
            KeyFormat::Secret => vec![self.secret()?],
            KeyFormat::Pem => self.public_keys()?,
            KeyFormat::Jwks => jwks::read(&self.file, &self.text)?,
        };
        if keys.is_empty() { Err(KeyError::NoKey { file: self.file.clone() }) } else { Ok(keys) }
    }

    fn secret(&self) -> Result<Key, KeyError> {
        let secret = self.text.trim_ascii();
        if looks_like_a_key(self.text.trim_ascii_start()) {
            return Err(KeyError::SecretIsKey { file: self.file.clone() });
        }
        Key::secret(secret).ok_or_else(|| KeyError::SecretTooShort { file: self.file.clone(), bytes: secret.len() })
    }

    fn public_keys(&self) -> Result<Vec<Key>, KeyError> {
        self.pem_blocks().map(|block| self.public_key(&block)).collect()
    }

    fn public_key(&self, block: &PemBlock<'_>) -> Result<Key, KeyError> {
        let (file, line) = (self.file.clone(), block.line);
        if block.label.ends_with(b"PRIVATE KEY-----") {
            return Err(KeyError::PrivateKeyPem { file, line });
        }
        if block.label != b"-----BEGIN PUBLIC KEY-----" {
            return Err(KeyError::OtherPem { file, line });
        }
        // What the parser says may quote the file, so it is not passed on.
        let Ok(der) = SubjectPublicKeyInfoDer::from_pem_slice(block.text) else {
            return Err(KeyError::DamagedPem { file, line });
        };
        Key::public(&der).ok_or(KeyError::UnusablePem { file, line })
    }

    /// What begins with each BEGIN line, up to the next one.
    fn pem_blocks(&self) -> impl Iterator<Item = PemBlock<'_>> {
        let text = &*self.text;
        let lines = text.split_inclusive(|&byte| byte == b'\n').scan(0, |end, line| {
            let start = *end;
            *end += line.len();
            Some((start, line))
        });
        let begins = lines.enumerate().filter(|(_, (_, line))| line.starts_with(b"-----BEGIN "));
        let mut begins = begins.map(|(index, (start, line))| (index + 1, start, line.trim_ascii_end())).peekable();
        std::iter::from_fn(move || {
            let (line, start, label) = begins.next()?;
            let end = begins.peek().map_or(text.len(), |&(_, next, _)| next);
            Some(PemBlock { line, label, text: &text[start..end] })
        })
    }
}

struct PemBlock<'a> {
    /// Counted from one.
    line: usize,
    /// The whole BEGIN line.
    label: &'a [u8],
    text: &'a [u8],
}

/// Whether this is a key in PEM, DER or JSON, so anything but random bytes that somebody keeps to himself.
fn looks_like_a_key(text: &[u8]) -> bool {
    // 32 bytes of any value are a point of Ed25519; what is longer and begins a sequence is a key if it parses. A key may
    // end in bytes that look like a line's end, and a line's end may follow it.
    let is_key = |len: usize| len > SECRET_BYTES_MIN && Key::public(&text[..len]).is_some();
    let is_der = || text.first() == Some(&DER_SEQUENCE) && (text.trim_ascii_end().len()..=text.len()).any(is_key);
    text.starts_with(b"-----BEGIN ") || text.starts_with(b"{") || is_der()
}

/// First byte of every key in DER.
const DER_SEQUENCE: u8 = 0x30;

/// Far above any JWKS, and small enough to read at once.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
