//! What can go wrong, and whose fault it is.

use std::io;

use rustls::Error;
use thiserror::Error as ThisError;

/// Why a session failed, or refused a call.
///
/// All but [`TlsError::Misuse`] end the session. The alert that tells the peer is then already in the `reply` of
/// the call that failed, except where a variant says that there is none.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[non_exhaustive]
pub enum TlsError {
    /// The peer speaks HTTP without TLS. No alert: it would not understand one, but it may understand a 400.
    #[error("the peer speaks plain HTTP on a TLS port")]
    PlainHttp,
    /// The first bytes are neither TLS nor HTTP.
    #[error("the peer does not speak TLS")]
    NotTls,
    /// A header announces a record above [`RECORD_BYTES_MAX`](super::RECORD_BYTES_MAX).
    #[error("the peer announces a record of {record_len} bytes, above the {max} of RFC 8446 §5.2", max = super::RECORD_BYTES_MAX)]
    RecordTooLong {
        /// Announced size in bytes, header included.
        record_len: usize,
    },
    /// A handshake message is cut over more bytes of records than are kept for one.
    #[error("the peer sends a handshake message over more than {bytes_max} bytes of records")]
    HandshakeTooLong {
        /// The limit in bytes.
        bytes_max: usize,
    },
    /// A record does not decrypt: it was altered on the way, or made with other keys (RFC 8446 §5.2).
    #[error("a record from the peer was altered on its way")]
    RecordAltered,
    /// The client offers application protocols, and `http/1.1` is none of them (RFC 7301 §3.2).
    #[error("the client offers no application protocol but others than http/1.1")]
    NoCommonProtocol,
    /// The server asks for a client certificate and got none (RFC 8446 §4.4.2.4).
    #[error("the client sent no certificate, and one is required")]
    CertificateMissing,
    /// The peer's certificate is not accepted.
    #[error("the peer's certificate is refused: {0}")]
    CertificateRefused(String),
    /// The peer and we share no version, cipher suite, group or signature scheme.
    #[error("the peer offers nothing in common with us: {0}")]
    Incompatible(String),
    /// The peer ended the session with an alert (RFC 8446 §6.2). No alert is sent in return.
    #[error("the peer ended the session with the alert {0}")]
    PeerAlert(String),
    /// The peer broke the protocol.
    #[error("the peer broke the TLS protocol: {0}")]
    Violation(String),
    /// The keys have encrypted as much as they may and cannot be renewed (TLS 1.2 only; RFC 8446 §5.5).
    #[error("the session's keys are used up")]
    KeysUsedUp,
    /// The failure is ours: a resource or a configuration that should have been refused earlier.
    #[error("TLS failed on our side: {0}")]
    Internal(String),
    /// Our caller called at the wrong time. The session is as it was.
    #[error(transparent)]
    Misuse(#[from] Misuse),
}

/// A call that the session's state does not allow. The fault is in our own program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ThisError)]
pub enum Misuse {
    /// Nothing can be written before the handshake has finished.
    #[error("write before the TLS handshake has finished")]
    StillHandshaking,
    /// Nothing can be written after `close_notify` (RFC 8446 §6.1).
    #[error("write after close_notify was sent")]
    AlreadyClosed,
    /// An earlier call has returned an error that ended the session.
    #[error("use of a TLS session that has failed")]
    AlreadyFailed,
    /// A client session was asked for with a name that is neither a DNS name nor an IP address (RFC 6066 §3).
    #[error("the server name is neither a DNS name nor an IP address")]
    NotAServerName,
}

impl TlsError {
    /// Names the culprit of an error that rustls found while reading.
    pub(super) fn from_rustls(error: Error) -> Self {
        match error {
            Error::DecryptError => Self::RecordAltered,
            Error::NoApplicationProtocol => Self::NoCommonProtocol,
            Error::NoCertificatesPresented => Self::CertificateMissing,
            Error::InvalidCertificate(why) => Self::CertificateRefused(why.to_string()),
            Error::PeerIncompatible(_) => Self::Incompatible(error.to_string()),
            Error::AlertReceived(alert) => Self::PeerAlert(format!("{alert:?}")),
            Error::FailedToGetCurrentTime
            | Error::FailedToGetRandomBytes
            | Error::General(_)
            | Error::EncryptError
            | Error::BadMaxFragmentSize
            | Error::InconsistentKeys(_)
            | Error::Other(_) => Self::Internal(error.to_string()),
            _ => Self::Violation(error.to_string()),
        }
    }
}

/// Why a certificate or key cannot be used. Each says which file, what is wrong, and what would be right.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum TlsSetupError {
    /// The file cannot be read.
    #[error("cannot read {file}: {source}")]
    Unreadable {
        /// Path of the file.
        file: String,
        /// What the kernel says.
        source: io::Error,
    },
    /// The PEM text itself is damaged.
    #[error("{file} is not valid PEM: {why}; was it cut short or edited?")]
    DamagedPem {
        /// Path of the file.
        file: String,
        /// What the parser says.
        why: String,
    },
    /// A certificate is expected and there is none.
    #[error("{file} holds no certificate: expected PEM with `-----BEGIN CERTIFICATE-----`, {found}")]
    NoCertificate {
        /// Path of the file.
        file: String,
        /// What the file holds instead.
        found: &'static str,
    },
    /// A private key is expected and there is none.
    #[error(
        "{file} holds no private key: expected PEM with `-----BEGIN PRIVATE KEY-----` (PKCS#8), \
         `RSA PRIVATE KEY` or `EC PRIVATE KEY`, {found}"
    )]
    NoKey {
        /// Path of the file.
        file: String,
        /// What the file holds instead.
        found: &'static str,
    },
    /// The private key is protected by a passphrase, and there is nobody to type it.
    #[error(
        "the private key in {file} is encrypted: store it decrypted, readable by this user only \
         (`openssl pkey -in {file} -out key.pem`)"
    )]
    KeyEncrypted {
        /// Path of the file.
        file: String,
    },
    /// Certificate and key have changed places.
    #[error("{cert_file} holds a private key and {key_file} a certificate: the two are swapped")]
    Swapped {
        /// Path given for the certificate chain.
        cert_file: String,
        /// Path given for the key.
        key_file: String,
    },
    /// The key is well-formed PEM, of a kind or size that cannot sign here.
    #[error(
        "the private key in {file} cannot be used: {why}; use RSA of 2048 to 8192 bits, ECDSA P-256, P-384 or P-521, or Ed25519"
    )]
    BadKey {
        /// Path of the file.
        file: String,
        /// What the crypto library says.
        why: String,
    },
    /// A certificate is well-formed PEM with contents that cannot be used.
    #[error(
        "the first certificate in {file} cannot be used: {why}; the server's own certificate must come first, an X.509 v3 one"
    )]
    BadCertificate {
        /// Path of the file.
        file: String,
        /// What the parser says.
        why: String,
    },
    /// The key belongs to another certificate.
    #[error(
        "the private key in {key_file} does not belong to the first certificate in {cert_file}: the server's own certificate must come first, before its issuers"
    )]
    KeyMismatch {
        /// Path of the certificate chain.
        cert_file: String,
        /// Path of the key.
        key_file: String,
    },
    /// The certificates that client certificates are checked against cannot be used.
    #[error("{file} cannot serve as client CA: {why}")]
    BadClientCa {
        /// Path of the file.
        file: String,
        /// What is wrong with it.
        why: String,
    },
    /// The crypto library refuses to work.
    #[error("TLS cannot be set up: {0}")]
    Crypto(String),
}
