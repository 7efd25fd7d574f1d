//! Certificates and keys from PEM, with errors that say what would be right.

use std::fs;
use std::path::Path;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::error::TlsSetupError;

/// PEM text and the name that errors call it by.
pub(super) struct Pem<'a> {
    /// A path, or a description if the text came from memory.
    pub(super) file: String,
    pub(super) text: std::borrow::Cow<'a, [u8]>,
}

impl<'a> Pem<'a> {
    pub(super) fn read(path: &Path) -> Result<Self, TlsSetupError> {
        let file = path.display().to_string();
        match fs::read(path) {
            Ok(text) => Ok(Self { file, text: text.into() }),
            Err(source) => Err(TlsSetupError::Unreadable { file, source }),
        }
    }

    pub(super) fn named(name: &str, text: &'a [u8]) -> Self {
        Self { file: name.to_owned(), text: text.into() }
    }

    /// All certificates, in the order of the file; at least one.
    pub(super) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsSetupError> {
        let chain = CertificateDer::pem_slice_iter(&self.text)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| self.damaged(&error))?;
        if chain.is_empty() {
            return Err(TlsSetupError::NoCertificate { file: self.file.clone(), found: self.found() });
        }
        Ok(chain)
    }

    /// The first private key: PKCS#8, PKCS#1 or SEC1.
    pub(super) fn private_key(&self) -> Result<PrivateKeyDer<'static>, TlsSetupError> {
        if self.holds_encrypted_key() {
            return Err(TlsSetupError::KeyEncrypted { file: self.file.clone() });
        }
        match PrivateKeyDer::from_pem_slice(&self.text) {
            Ok(key) => Ok(key),
            Err(pem::Error::NoItemsFound) => Err(TlsSetupError::NoKey { file: self.file.clone(), found: self.found() }),
            Err(error) => Err(self.damaged(&error)),
        }
    }

    pub(super) fn holds_certificate(&self) -> bool {
        self.contains(b"-----BEGIN CERTIFICATE-----")
    }

    pub(super) fn holds_key(&self) -> bool {
        self.contains(b"PRIVATE KEY-----")
    }

    /// PKCS#8 says so in its label, the older formats in a header line.
    fn holds_encrypted_key(&self) -> bool {
        self.contains(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || self.contains(b"Proc-Type: 4,ENCRYPTED")
    }

    /// What the file holds instead of what was looked for, as the end of a sentence.
    fn found(&self) -> &'static str {
        if self.text.is_empty() {
            "found an empty file"
        } else if self.holds_key() {
            "found a private key"
        } else if self.holds_certificate() {
            "found a certificate"
        } else if self.contains(b"-----BEGIN ") {
            "found PEM of another kind"
        } else if self.text.first() == Some(&DER_SEQUENCE) {
            "found what looks like DER: convert it with openssl"
        } else {
            "found no PEM at all"
        }
    }

    fn contains(&self, wanted: &[u8]) -> bool {
        self.text.windows(wanted.len()).any(|window| window == wanted)
    }

    fn damaged(&self, error: &pem::Error) -> TlsSetupError {
        TlsSetupError::DamagedPem { file: self.file.clone(), why: error.to_string() }
    }
}

/// First byte of every certificate and key in DER.
const DER_SEQUENCE: u8 = 0x30;
