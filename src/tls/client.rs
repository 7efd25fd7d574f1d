//! The client's side of TLS, for tests and for the load generator.

use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::error::{Misuse, TlsError, TlsSetupError};
use super::pem::Pem;
use super::server::ALPN;
use super::session::Session;

/// Whom a client believes.
#[derive(Clone, Copy, Debug)]
pub enum Trust<'a> {
    /// Servers whose certificate comes from one of these authorities, in PEM.
    Roots(&'a [u8]),
    /// Anybody: no certificate is checked, so anyone on the way can read and alter everything.
    ///
    /// For load against one's own machine, with a certificate that signs itself. Never for anything else.
    Insecure,
}

/// What a client's sessions share: trust, and the tickets they were given.
///
/// A clone costs a reference count and shares both.
#[derive(Clone, Debug)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
}

impl ClientTls {
    /// A client that offers TLS 1.2 and 1.3 and `http/1.1`.
    ///
    /// # Errors
    ///
    /// [`TlsSetupError::NoCertificate`] or [`TlsSetupError::BadCertificate`] if the roots cannot be used.
    pub fn new(trust: Trust<'_>) -> Result<Self, TlsSetupError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsSetupError::Crypto(error.to_string()))?;
        let mut config = match trust {
            Trust::Roots(pem) => builder.with_root_certificates(roots(pem)?).with_no_client_auth(),
            Trust::Insecure => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(InsecureAcceptAny(provider)))
                .with_no_client_auth(),
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self::from_config(config))
    }

    /// A client as `config` says: with a certificate of its own, one version only, other protocols.
    pub fn from_config(config: ClientConfig) -> Self {
        Self { config: Arc::new(config) }
    }

    /// A session with the server of this name, a DNS name or an IP address.
    ///
    /// It speaks first: call [`Session::read`] once without input to have the ClientHello.
    ///
    /// # Errors
    ///
    /// [`Misuse::NotAServerName`] if `server_name` is neither.
    pub fn session(&self, server_name: &str) -> Result<Session, TlsError> {
        let name = ServerName::try_from(server_name.to_owned()).map_err(|_| Misuse::NotAServerName)?;
        UnbufferedClientConnection::new(Arc::clone(&self.config), name)
            .map(Session::client)
            .map_err(TlsError::from_rustls)
    }
}

fn roots(pem: &[u8]) -> Result<RootCertStore, TlsSetupError> {
    let pem = Pem::named("the roots given", pem);
    let mut roots = RootCertStore::empty();
    for certificate in pem.certificates()? {
        roots
            .add(certificate)
            .map_err(|error| TlsSetupError::BadCertificate { file: pem.file.clone(), why: error.to_string() })?;
    }
    Ok(roots)
}

/// Accepts every certificate. Signatures are still checked, so the peer does hold the key of what it shows.
#[derive(Debug)]
struct InsecureAcceptAny(Arc<CryptoProvider>);

impl ServerCertVerifier for InsecureAcceptAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
