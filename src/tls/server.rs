//! The server's side of TLS: certificate, key and tickets, made once and shared by all cores.

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, UnbufferedServerConnection,
    WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, RootCertStore, ServerConfig};

use super::error::{TlsError, TlsSetupError};
use super::pem::Pem;
use super::session::Session;

/// Where a server's certificate and key are.
#[derive(Clone, Debug)]
pub struct TlsOptions {
    /// PEM file with the server's certificate first and its issuers after it.
    pub cert_chain: PathBuf,
    /// PEM file with the private key: PKCS#8, PKCS#1 or SEC1, not encrypted.
    pub key: PathBuf,
    /// PEM file with the authorities that client certificates must come from. `None`: none is asked for.
    pub client_ca: Option<PathBuf>,
}

/// A server's certificate, key, policy and ticket keys.
///
/// TLS 1.2 and 1.3; `http/1.1` is the only application protocol, and optional for the client (RFC 7301). Sessions
/// are resumed by tickets that every clone can read, so on every core; no session is stored here, so nothing
/// grows with the number of connections. No early data is accepted (RFC 8446 §8).
///
/// Made once; a clone costs a reference count.
#[derive(Clone)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    /// What client certificates are checked against: tickets live only as long as this stays the same.
    client_ca: Arc<[CertificateDer<'static>]>,
}

impl ServerTls {
    /// Reads the files that `options` name.
    ///
    /// # Errors
    ///
    /// A [`TlsSetupError`] that names the file, what is wrong with it and what would be right.
    pub fn from_pem_files(options: &TlsOptions) -> Result<Self, TlsSetupError> {
        Identity::from_pem_files(options)?.into_tls(new_ticketer()?)
    }

    /// The same from memory: `cert` is the chain, `client_ca` the authorities of client certificates.
    ///
    /// # Errors
    ///
    /// As [`ServerTls::from_pem_files`], with a description in the place of the file's name.
    pub fn from_pem(cert: &[u8], key: &[u8], client_ca: Option<&[u8]>) -> Result<Self, TlsSetupError> {
        Identity::from_pem(cert, key, client_ca)?.into_tls(new_ticketer()?)
    }

    /// What takes this one's place after the files have changed. Sessions under way are not touched.
    ///
    /// Tickets issued so far stay valid, unless the client CA has changed: a resumed session is not asked for its
    /// certificate again, so an old ticket would pass by the new authority.
    ///
    /// # Errors
    ///
    /// As [`ServerTls::from_pem_files`]; `self` remains as good as it was.
    pub fn reloaded(&self, options: &TlsOptions) -> Result<Self, TlsSetupError> {
        let identity = Identity::from_pem_files(options)?;
        let ticketer = self.ticketer_for(&identity)?;
        identity.into_tls(ticketer)
    }

    /// [`ServerTls::reloaded`], from memory.
    ///
    /// # Errors
    ///
    /// As [`ServerTls::from_pem`]; `self` remains as good as it was.
    pub fn reloaded_pem(&self, cert: &[u8], key: &[u8], client_ca: Option<&[u8]>) -> Result<Self, TlsSetupError> {
        let identity = Identity::from_pem(cert, key, client_ca)?;
        let ticketer = self.ticketer_for(&identity)?;
        identity.into_tls(ticketer)
    }

    /// A session that waits for a ClientHello.
    ///
    /// # Errors
    ///
    /// [`TlsError::Internal`]; not seen with a `ServerTls` that could be made.
    pub fn session(&self) -> Result<Session, TlsError> {
        UnbufferedServerConnection::new(Arc::clone(&self.config)).map(Session::server).map_err(TlsError::from_rustls)
    }

    fn ticketer_for(&self, identity: &Identity) -> Result<Arc<dyn ProducesTickets>, TlsSetupError> {
        if *identity.client_ca == *self.client_ca { Ok(Arc::clone(&self.config.ticketer)) } else { new_ticketer() }
    }
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerTls").finish_non_exhaustive()
    }
}

/// A certificate with its key, checked, and the authorities for clients.
struct Identity {
    certified: CertifiedKey,
    client_ca: Vec<CertificateDer<'static>>,
    client_ca_file: String,
    provider: Arc<CryptoProvider>,
}

impl Identity {
    fn from_pem_files(options: &TlsOptions) -> Result<Self, TlsSetupError> {
        let cert = Pem::read(&options.cert_chain)?;
        let key = Pem::read(&options.key)?;
        let client_ca = options.client_ca.as_deref().map(Pem::read).transpose()?;
        Self::check(&cert, &key, client_ca.as_ref())
    }

    fn from_pem(cert: &[u8], key: &[u8], client_ca: Option<&[u8]>) -> Result<Self, TlsSetupError> {
        let client_ca = client_ca.map(|text| Pem::named("the client CA given", text));
        Self::check(
            &Pem::named("the certificate chain given", cert),
            &Pem::named("the private key given", key),
            client_ca.as_ref(),
        )
    }

    fn check(cert: &Pem<'_>, key: &Pem<'_>, client_ca: Option<&Pem<'_>>) -> Result<Self, TlsSetupError> {
        let swapped = cert.holds_key() && !cert.holds_certificate() && key.holds_certificate() && !key.holds_key();
        if swapped {
            return Err(TlsSetupError::Swapped { cert_file: cert.file.clone(), key_file: key.file.clone() });
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let chain = cert.certificates()?;
        let signer = provider
            .key_provider
            .load_private_key(key.private_key()?)
            .map_err(|error| TlsSetupError::BadKey { file: key.file.clone(), why: error.to_string() })?;
        let certified = CertifiedKey::new(chain, signer);
        match certified.keys_match() {
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(Error::InconsistentKeys(_)) => {
                return Err(TlsSetupError::KeyMismatch { cert_file: cert.file.clone(), key_file: key.file.clone() });
            }
            Err(error) => {
                return Err(TlsSetupError::BadCertificate { file: cert.file.clone(), why: error.to_string() });
            }
        }
        Ok(Self {
            certified,
            client_ca: client_ca.map(Pem::certificates).transpose()?.unwrap_or_default(),
            client_ca_file: client_ca.map(|pem| pem.file.clone()).unwrap_or_default(),
            provider,
        })
    }

    fn into_tls(self, ticketer: Arc<dyn ProducesTickets>) -> Result<ServerTls, TlsSetupError> {
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsSetupError::Crypto(error.to_string()))?;
        let builder = if self.client_ca.is_empty() {
            builder.with_no_client_auth()
        } else {
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(self.client_roots()?), Arc::clone(&self.provider))
                    .build()
                    .map_err(|error| self.bad_client_ca(&error))?;
            builder.with_client_cert_verifier(verifier)
        };
        let mut config = builder.with_cert_resolver(Arc::new(OneCertificate(Arc::new(self.certified))));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.ticketer = ticketer;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = TICKETS_PER_HANDSHAKE;
        // Half-RTT data would go to a client that has not shown its certificate yet (RFC 8446 §4.4.2, appendix E.5).
        config.send_half_rtt_data = false;
        config.max_early_data_size = 0;
        Ok(ServerTls { config: Arc::new(config), client_ca: self.client_ca.into() })
    }

    fn client_roots(&self) -> Result<RootCertStore, TlsSetupError> {
        let mut roots = RootCertStore::empty();
        for certificate in &self.client_ca {
            roots.add(certificate.clone()).map_err(|error| self.bad_client_ca(&error))?;
        }
        Ok(roots)
    }

    fn bad_client_ca(&self, error: &dyn std::error::Error) -> TlsSetupError {
        TlsSetupError::BadClientCa { file: self.client_ca_file.clone(), why: error.to_string() }
    }
}

/// Gives everyone the one certificate, and keeps the name that was asked for.
#[derive(Debug)]
struct OneCertificate(Arc<CertifiedKey>);

impl ResolvesServerCert for OneCertificate {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        ASKED_NAME.set(hello.server_name().map(Box::from));
        Some(Arc::clone(&self.0))
    }
}

thread_local! {
    /// The name in the ClientHello that this thread read last.
    ///
    /// rustls shows it to the resolver only, which all sessions share. Both run in one call of `Session::read`, on
    /// one thread, so what lies here right after that call belongs to that session.
    static ASKED_NAME: RefCell<Option<Box<str>>> = const { RefCell::new(None) };
}

/// Takes what the resolver has left; `None` if no ClientHello was read since, or it named nobody.
pub(super) fn take_asked_name() -> Option<Box<str>> {
    ASKED_NAME.take()
}

fn new_ticketer() -> Result<Arc<dyn ProducesTickets>, TlsSetupError> {
    aws_lc_rs::Ticketer::new().map_err(|error| TlsSetupError::Crypto(error.to_string()))
}

/// WebSocket is HTTP/1.1 (RFC 6455 §4.1).
pub(super) const ALPN: &[u8] = b"http/1.1";

/// One reconnects after one lost connection, and each handshake brings a new ticket.
///
/// Browsers that fetch pages want several, for parallel connections; each costs a derived secret, an encryption
/// and some 250 bytes on the wire.
const TICKETS_PER_HANDSHAKE: usize = 1;
