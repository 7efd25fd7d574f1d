//! Certificates for a server called `localhost` and its clients, and clients that speak TLS.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use corewire::tls::ServerTls;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    PKCS_ECDSA_P256_SHA256,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};

use super::{Client, PATIENCE, Socket};

/// An authority, a server's certificate and a client's.
pub struct Pki {
    pub ca: String,
    pub cert: String,
    pub key: String,
    client_cert: String,
    client_key: String,
}

impl Pki {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Corewire test CA");
        let ca = CertifiedIssuer::self_signed(params, new_key()).expect("an authority");
        let key = new_key();
        let params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
        let cert = params.signed_by(&key, &ca).expect("a certificate");
        let client_key = new_key();
        let mut params = CertificateParams::new(["client".to_owned()]).expect("a name");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let client_cert = params.signed_by(&client_key, &ca).expect("a certificate");
        Self {
            ca: ca.pem(),
            cert: cert.pem(),
            key: key.serialize_pem(),
            client_cert: client_cert.pem(),
            client_key: client_key.serialize_pem(),
        }
    }

    /// A server that asks for no certificate, or for one of ours.
    pub fn server(&self, asks_for_certificate: bool) -> ServerTls {
        let client_ca = asks_for_certificate.then_some(self.ca.as_bytes());
        ServerTls::from_pem(self.cert.as_bytes(), self.key.as_bytes(), client_ca).expect("good files")
    }

    /// What a plain HTTPS server needs.
    pub fn https(&self) -> Arc<rustls::ServerConfig> {
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("a key");
        let builder = rustls::ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("its own versions");
        Arc::new(builder.with_no_client_auth().with_single_cert(vec![der(&self.cert)], key).expect("they fit"))
    }

    /// A client of these versions, with a certificate or without.
    pub fn client(&self, versions: &[&'static SupportedProtocolVersion], with_certificate: bool) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(der(&self.ca)).expect("a root");
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(roots);
        Arc::new(if with_certificate {
            let key = PrivateKeyDer::from_pem_slice(self.client_key.as_bytes()).expect("a key");
            builder.with_client_auth_cert(vec![der(&self.client_cert)], key).expect("a pair")
        } else {
            builder.with_no_client_auth()
        })
    }
}

/// A client that has not said anything yet.
pub fn connect(addr: SocketAddr, config: &Arc<ClientConfig>) -> Client {
    let stream = TcpStream::connect_timeout(&addr, PATIENCE).expect("the server accepts");
    stream.set_nodelay(true).expect("an option");
    stream.set_read_timeout(Some(PATIENCE)).expect("an option");
    stream.set_write_timeout(Some(PATIENCE)).expect("an option");
    let name = ServerName::try_from("localhost").expect("a name");
    let session = ClientConnection::new(Arc::clone(config), name).expect("a session");
    Client::new(Socket::Tls(Box::new(StreamOwned::new(session, stream))))
}

fn new_key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key")
}

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate")
}
