//! TLS as a policy: versions, protocols, tickets, certificates, keys. The peer is rustls's own buffered connection,
//! which shares no code with `Session` above the record layer.
#![cfg(feature = "tls")]

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use corewire::tls::{
    ClientTls, Misuse, RECORD_BYTES_MAX, ServerTls, Session, TlsError, TlsOptions, TlsSetupError, TlsVersion, Trust,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, Connection, Error, HandshakeKind, RootCertStore, ServerConfig,
    ServerConnection, SupportedProtocolVersion,
};

#[test]
fn each_version_is_spoken() {
    let pki = Pki::new();
    for (version, want) in [(&TLS13, TlsVersion::Tls13), (&TLS12, TlsVersion::Tls12)] {
        let mut link = Link::new(&pki.server(None), pki.client(&[version]));
        link.settle().expect("a handshake");
        assert_eq!(link.session.facts().version, Some(want));
        link.assert_talks();
    }
    let mut link = Link::new(&pki.server(None), pki.client(&[&TLS12, &TLS13]));
    link.settle().expect("a handshake");
    assert_eq!(link.session.facts().version, Some(TlsVersion::Tls13), "the newer one is chosen");
}

#[test]
fn http_1_1_is_the_only_protocol_and_optional() {
    let pki = Pki::new();
    type Want = Result<Option<&'static str>, TlsError>;
    let cases: &[(&str, &[&str], Want)] = &[
        ("none", &[], Ok(None)),
        ("http/1.1", &["http/1.1"], Ok(Some("http/1.1"))),
        ("both", &["h2", "http/1.1"], Ok(Some("http/1.1"))),
        ("h2 only", &["h2"], Err(TlsError::NoCommonProtocol)),
    ];
    for version in VERSIONS {
        for (name, offered, want) in cases {
            let mut config = pki.client(&[version]);
            config.alpn_protocols = offered.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
            let mut link = Link::new(&pki.server(None), config);
            let got = link.settle().map(|()| link.session.facts().alpn);
            assert_eq!(got, want.clone().map(|alpn| alpn.map(str::to_owned)), "{name}");
            if got.is_err() {
                assert_eq!(link.peer_error, Some(Error::AlertReceived(AlertDescription::NoApplicationProtocol)));
            }
        }
    }
}

#[test]
fn tickets_are_good_on_every_core() {
    let pki = Pki::new();
    let server = pki.server(None);
    for version in VERSIONS {
        let config = Arc::new(pki.client(&[version]));
        let elsewhere = server.clone();
        let first = {
            let config = Arc::clone(&config);
            thread::spawn(move || {
                let mut link = Link::shared(&elsewhere, config);
                link.settle().expect("a full handshake");
                link.assert_talks();
                link.session.facts()
            })
            .join()
            .expect("the other core")
        };
        assert!(!first.resumed);

        let mut link = Link::shared(&server, config);
        link.settle().expect("a resumed handshake");
        assert!(link.session.facts().resumed, "{:?}", first.version);
        assert_eq!(link.peer.handshake_kind(), Some(HandshakeKind::Resumed));
        assert_eq!(link.session.facts().sni.as_deref(), Some("localhost"));
        link.assert_talks();
    }
}

#[test]
fn one_ticket_is_sent_in_tls_1_3() {
    let pki = Pki::new();
    let mut link = Link::new(&pki.server(None), pki.client(&[&TLS13]));
    link.settle().expect("a handshake");
    let Connection::Client(client) = &link.peer else { panic!("a client") };
    assert_eq!(client.tls13_tickets_received(), 1);
}

#[test]
fn tickets_survive_a_reload_unless_the_client_ca_changes() {
    let pki = Pki::new();
    let server = pki.server(None);
    for version in VERSIONS {
        let config = Arc::new(pki.client(&[version]));
        Link::shared(&server, Arc::clone(&config)).settle().expect("a full handshake");
        let reloaded = server.reloaded_pem(pki.cert(), pki.key(), None).expect("the same again");
        let mut link = Link::shared(&reloaded, config);
        link.settle().expect("a handshake");
        assert!(link.session.facts().resumed);

        // A client that never showed a certificate must not come in with its old ticket.
        let config = Arc::new(pki.client(&[version]));
        Link::shared(&server, Arc::clone(&config)).settle().expect("a full handshake");
        let stricter = server.reloaded_pem(pki.cert(), pki.key(), Some(pki.ca())).expect("now with client CA");
        let refused = Link::shared(&stricter, config).settle();
        assert_eq!(refused, Err(TlsError::CertificateMissing));
    }
}

#[test]
fn client_certificates_are_required_and_checked() {
    let pki = Pki::new();
    let stranger = Pki::named("theirs");
    for version in VERSIONS {
        let server = pki.server(Some(pki.ca()));

        let mut link = Link::new(&server, pki.client_with_certificate(&[version], &pki));
        link.settle().expect("the right certificate");
        assert_eq!(link.session.facts().peer_chain, [pki.client_der()]);
        link.assert_talks();

        let mut link = Link::new(&server, pki.client_with_certificate(&[version], &stranger));
        let refused = link.settle();
        assert!(matches!(refused, Err(TlsError::CertificateRefused(_))), "{refused:?}");
        assert_eq!(link.peer_error, Some(Error::AlertReceived(AlertDescription::UnknownCA)));

        let mut link = Link::new(&server, pki.client(&[version]));
        assert_eq!(link.settle(), Err(TlsError::CertificateMissing));
        assert_eq!(link.peer_error, Some(Error::AlertReceived(AlertDescription::CertificateRequired)));
    }
}

#[test]
fn a_resumed_session_still_knows_the_client_certificate() {
    let pki = Pki::new();
    let server = pki.server(Some(pki.ca()));
    for version in VERSIONS {
        let config = Arc::new(pki.client_with_certificate(&[version], &pki));
        Link::shared(&server, Arc::clone(&config)).settle().expect("a full handshake");
        let mut link = Link::shared(&server, config);
        link.settle().expect("a resumed handshake");
        assert!(link.session.facts().resumed);
        assert_eq!(link.session.facts().peer_chain, [pki.client_der()]);
    }
}

#[test]
fn a_request_for_new_keys_is_answered_before_the_next_record() {
    let pki = Pki::new();
    let mut link = Link::new(&pki.server(None), pki.client(&[&TLS13]));
    link.settle().expect("a handshake");
    for round in 0..40 {
        link.peer.refresh_traffic_keys().expect("a KeyUpdate");
        link.settle().expect("a KeyUpdate is read");
        let mut wire = Vec::new();
        link.session.write(b"new keys", &mut wire).expect("a write");
        assert_eq!(record_count(&wire), 2, "KeyUpdate and data, round {round}");
        link.deliver(&wire);
        assert_eq!(link.peer_plaintext(), b"new keys");
        link.assert_talks();
    }
}

#[test]
fn a_request_for_new_keys_is_answered_before_close_notify() {
    let pki = Pki::new();
    let mut link = Link::new(&pki.server(None), pki.client(&[&TLS13]));
    link.settle().expect("a handshake");
    link.peer.refresh_traffic_keys().expect("a KeyUpdate");
    link.settle().expect("a KeyUpdate is read");
    let mut wire = Vec::new();
    link.session.close_notify(&mut wire);
    link.deliver(&wire);
    assert!(link.peer.process_new_packets().expect("no fault").peer_has_closed());
}

#[test]
fn new_keys_without_end_are_refused_with_an_alert() {
    let pki = Pki::new();
    let mut link = Link::new(&pki.server(None), pki.client(&[&TLS13]));
    link.settle().expect("a handshake");
    let failed = (0..100).find_map(|_| {
        link.peer.refresh_traffic_keys().expect("a KeyUpdate");
        link.settle().err()
    });
    assert!(matches!(failed, Some(TlsError::Violation(_))), "{failed:?}");
    assert!(matches!(link.peer_error, Some(Error::AlertReceived(_))), "{:?}", link.peer_error);
}

#[test]
fn close_notify_is_understood_both_ways() {
    let pki = Pki::new();
    for version in VERSIONS {
        let mut link = Link::new(&pki.server(None), pki.client(&[version]));
        link.settle().expect("a handshake");
        link.peer.send_close_notify();
        let mut wire = link.peer_output();
        let (mut plaintext, mut reply) = (Vec::new(), Vec::new());
        let progress = link.session.read(&mut wire, &mut plaintext, &mut reply).expect("close_notify");
        assert!(progress.peer_closed && progress.consumed == wire.len());
        let mut wire = Vec::new();
        link.session.close_notify(&mut wire);
        link.deliver(&wire);
        assert!(link.peer.process_new_packets().expect("no fault").peer_has_closed());
    }
}

/// As a client: the server's messages come cut over many records, and we write in the middle of one.
#[test]
fn a_write_between_the_parts_of_a_ticket_works() {
    let pki = Pki::new();
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .expect("a version")
        .with_no_client_auth()
        .with_single_cert(vec![der(pki.cert())], private_key(pki.key()))
        .expect("a certificate");
    config.max_fragment_size = Some(32);
    let peer = ServerConnection::new(Arc::new(config)).expect("a connection");
    let client = ClientTls::new(Trust::Roots(pki.ca())).expect("a client");
    let mut link = Link::between(client.session("localhost").expect("a session"), peer.into());
    link.step().expect("a ClientHello");
    while link.session.is_handshaking() {
        link.step().expect("a handshake");
    }
    // Finished goes out; the tickets come back.
    let finished = std::mem::take(&mut link.session_output);
    link.deliver(&finished);
    let tickets = link.peer_output();
    assert!(record_count(&tickets) > 4);
    let first_len = 5 + usize::from(u16::from_be_bytes([tickets[3], tickets[4]]));
    let (mut plaintext, mut reply) = (Vec::new(), Vec::new());
    let mut first = tickets[..first_len].to_vec();
    let progress = link.session.read(&mut first, &mut plaintext, &mut reply).expect("a part");
    assert_eq!(progress.consumed, first_len, "the session keeps what it needs");
    let mut wire = Vec::new();
    link.session.write(b"in between", &mut wire).expect("a write");
    link.deliver(&wire);
    assert_eq!(link.peer_plaintext(), b"in between");
    let mut rest = tickets[first_len..].to_vec();
    link.session.read(&mut rest, &mut plaintext, &mut reply).expect("the other parts");
    link.assert_talks();
}

#[test]
fn a_client_trusts_whom_it_was_told_to() {
    let (pki, stranger) = (Pki::new(), Pki::named("theirs"));
    let cases: &[(&str, Trust<'_>, &str, bool)] = &[
        ("its own CA", Trust::Roots(pki.ca()), "localhost", true),
        ("another CA", Trust::Roots(stranger.ca()), "localhost", false),
        ("another name", Trust::Roots(pki.ca()), "example.org", false),
        ("anybody", Trust::Insecure, "example.org", true),
    ];
    for (name, trust, server_name, want) in cases {
        let mut server = pki.server(None).session().expect("a session");
        let mut client = ClientTls::new(*trust).expect("a client").session(server_name).expect("a session");
        let (mut to_server, mut to_client, mut plaintext) = (Vec::new(), Vec::new(), Vec::new());
        let mut failed = None;
        for _ in 0..3 {
            if let Err(error) = client.read(&mut to_client, &mut plaintext, &mut to_server) {
                failed = Some(error);
                break;
            }
            to_client.clear();
            server.read(&mut to_server, &mut plaintext, &mut to_client).expect("the server reads");
            to_server.clear();
        }
        assert_eq!(failed.is_none(), *want, "{name}: {failed:?}");
        if failed.is_some() {
            assert!(matches!(failed, Some(TlsError::CertificateRefused(_))), "{name}: {failed:?}");
            to_client.clear();
            let alert = server.read(&mut to_server, &mut plaintext, &mut to_client);
            assert!(matches!(alert, Err(TlsError::PeerAlert(_))), "{name}: {alert:?}");
            assert!(to_client.is_empty(), "an alert is not answered");
        }
    }
    let no_name = ClientTls::new(Trust::Insecure).expect("a client").session("no name!");
    assert_eq!(no_name.err(), Some(Misuse::NotAServerName.into()));
}

#[test]
fn every_kind_of_key_is_read() {
    let pki = Pki::new();
    for algorithm in [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
        let key = KeyPair::generate_for(algorithm).expect("a key");
        let cert = server_params().signed_by(&key, &pki.ca).expect("a certificate");
        let server = ServerTls::from_pem(cert.pem().as_bytes(), key.serialize_pem().as_bytes(), None);
        let mut link = Link::new(&server.expect("a server"), pki.client(&[&TLS13]));
        link.settle().expect("a handshake");
    }
}

#[test]
fn one_file_may_hold_certificate_and_key() {
    let pki = Pki::new();
    let both = [pki.key(), pki.cert()].concat();
    ServerTls::from_pem(&both, &both, None).expect("both in one");
}

#[test]
fn setup_errors_name_the_file_and_the_mend() {
    let pki = Pki::new();
    let folder = Folder::new();
    let cert = folder.file("cert.pem", pki.cert());
    let key = folder.file("key.pem", pki.key());
    let other_key = folder.file("other.pem", Pki::new().key());
    let empty = folder.file("empty.pem", b"");
    let text = folder.file("text.pem", b"hello\n");
    let der_file = folder.file("cert.der", &der(pki.cert()));
    let cut = folder.file("cut.pem", &pki.cert()[..100]);
    let locked = folder
        .file("locked.pem", b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n");
    let locked_old = folder.file(
        "locked1.pem",
        b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
    );
    let noise_key = folder.file("noise.pem", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    let noise_cert = folder.file("noisecert.pem", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let absent = folder.0.join("absent.pem");

    let cases: &[(&Path, &Path, Option<&Path>, &[&str])] = &[
        (&absent, &key, None, &["cannot read", "absent.pem", "No such file"]),
        (&cert, &absent, None, &["cannot read", "absent.pem", "No such file"]),
        (&empty, &key, None, &["empty.pem", "no certificate", "BEGIN CERTIFICATE", "an empty file"]),
        (&text, &key, None, &["text.pem", "no certificate", "no PEM at all"]),
        (&der_file, &key, None, &["cert.der", "looks like DER"]),
        (&cut, &key, None, &["cut.pem", "not valid PEM"]),
        (&key, &cert, None, &["key.pem", "cert.pem", "swapped"]),
        (&key, &key, None, &["key.pem", "no certificate", "found a private key"]),
        (&cert, &cert, None, &["cert.pem", "no private key", "PKCS#8", "found a certificate"]),
        (&cert, &locked, None, &["locked.pem", "encrypted", "openssl pkey"]),
        (&cert, &locked_old, None, &["locked1.pem", "encrypted", "openssl pkey"]),
        (&cert, &noise_key, None, &["noise.pem", "cannot be used"]),
        (&noise_cert, &key, None, &["noisecert.pem", "cannot be used"]),
        (&cert, &other_key, None, &["other.pem", "cert.pem", "does not belong"]),
        (&cert, &key, Some(&key), &["key.pem", "no certificate"]),
        (&cert, &key, Some(&absent), &["cannot read", "absent.pem"]),
        (&cert, &key, Some(&noise_cert), &["noisecert.pem", "client CA"]),
    ];
    for &(cert, key, client_ca, words) in cases {
        let options =
            TlsOptions { cert_chain: cert.to_owned(), key: key.to_owned(), client_ca: client_ca.map(Path::to_owned) };
        let error: TlsSetupError = ServerTls::from_pem_files(&options).expect_err("a setup error");
        let said = error.to_string();
        for word in words {
            assert!(said.contains(word), "{said:?} does not say {word:?}");
        }
    }
    let options = TlsOptions { cert_chain: cert, key, client_ca: None };
    let server = ServerTls::from_pem_files(&options).expect("a server");
    server.reloaded(&options).expect("the same again");
}

/// A certificate authority with one server and one client.
struct Pki {
    ca: CertifiedIssuer<'static, KeyPair>,
    ca_pem: String,
    cert_pem: String,
    key_pem: String,
    client_cert_pem: String,
    client_key_pem: String,
}

impl Pki {
    fn new() -> Self {
        Self::named("ours")
    }

    fn named(name: &str) -> Self {
        let mut params = CertificateParams::new([]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA");
        let key = KeyPair::generate().expect("a key");
        let cert = server_params().signed_by(&key, &ca).expect("a certificate");
        let client_key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(["client".to_owned()]).expect("a name");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let client_cert = params.signed_by(&client_key, &ca).expect("a certificate");
        Self {
            ca_pem: ca.pem(),
            ca,
            cert_pem: cert.pem(),
            key_pem: key.serialize_pem(),
            client_cert_pem: client_cert.pem(),
            client_key_pem: client_key.serialize_pem(),
        }
    }

    fn ca(&self) -> &[u8] {
        self.ca_pem.as_bytes()
    }

    fn cert(&self) -> &[u8] {
        self.cert_pem.as_bytes()
    }

    fn key(&self) -> &[u8] {
        self.key_pem.as_bytes()
    }

    fn client_der(&self) -> Vec<u8> {
        der(self.client_cert_pem.as_bytes()).to_vec()
    }

    fn server(&self, client_ca: Option<&[u8]>) -> ServerTls {
        ServerTls::from_pem(self.cert(), self.key(), client_ca).expect("a server")
    }

    fn client(&self, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        self.client_builder(versions).with_no_client_auth()
    }

    /// A client that trusts this authority and shows the certificate of `whose`.
    fn client_with_certificate(&self, versions: &[&'static SupportedProtocolVersion], whose: &Self) -> ClientConfig {
        let chain = vec![der(whose.client_cert_pem.as_bytes())];
        self.client_builder(versions)
            .with_client_auth_cert(chain, private_key(whose.client_key_pem.as_bytes()))
            .expect("a client certificate")
    }

    fn client_builder(
        &self,
        versions: &[&'static SupportedProtocolVersion],
    ) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
        let mut roots = RootCertStore::empty();
        roots.add(der(self.ca())).expect("a root");
        ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(roots)
    }
}

fn server_params() -> CertificateParams {
    CertificateParams::new(["localhost".to_owned()]).expect("a name")
}

fn der(pem: &[u8]) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem).expect("a certificate")
}

fn private_key(pem: &[u8]) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_slice(pem).expect("a key")
}

/// Our session and rustls's buffered connection at the other end.
struct Link {
    session: Session,
    session_output: Vec<u8>,
    plaintext: Vec<u8>,
    peer: Connection,
    /// Why the peer gave up.
    peer_error: Option<Error>,
}

impl Link {
    fn new(server: &ServerTls, config: ClientConfig) -> Self {
        Self::shared(server, Arc::new(config))
    }

    fn shared(server: &ServerTls, config: Arc<ClientConfig>) -> Self {
        let name = ServerName::try_from("localhost").expect("a name");
        let peer = ClientConnection::new(config, name).expect("a connection");
        Self::between(server.session().expect("a session"), peer.into())
    }

    fn between(session: Session, peer: Connection) -> Self {
        Self { session, session_output: Vec::new(), plaintext: Vec::new(), peer, peer_error: None }
    }

    /// Until both are silent. An error of ours is delivered to the peer before it is returned.
    fn settle(&mut self) -> Result<(), TlsError> {
        loop {
            self.step()?;
            if self.session_output.is_empty() && !self.peer.wants_write() {
                return Ok(());
            }
        }
    }

    /// What the session has said goes to the peer, and what the peer says comes back.
    fn step(&mut self) -> Result<(), TlsError> {
        let wire = std::mem::take(&mut self.session_output);
        self.deliver(&wire);
        let mut wire = self.peer_output();
        match self.session.read(&mut wire, &mut self.plaintext, &mut self.session_output) {
            Ok(progress) => {
                assert_eq!(progress.consumed, wire.len());
                Ok(())
            }
            Err(error) => {
                let alert = std::mem::take(&mut self.session_output);
                assert_eq!(alert.is_empty(), matches!(error, TlsError::PeerAlert(_)), "{error}");
                self.deliver(&alert);
                Err(error)
            }
        }
    }

    fn deliver(&mut self, mut wire: &[u8]) {
        while !wire.is_empty() {
            self.peer.read_tls(&mut wire).expect("room");
            if let Err(error) = self.peer.process_new_packets() {
                self.peer_error = Some(error);
                return;
            }
        }
    }

    fn peer_output(&mut self) -> Vec<u8> {
        let mut wire = Vec::new();
        while self.peer.wants_write() {
            self.peer.write_tls(&mut wire).expect("a vector never fails");
        }
        wire
    }

    fn peer_plaintext(&mut self) -> Vec<u8> {
        let mut plaintext = vec![0; RECORD_BYTES_MAX];
        let len = self.peer.reader().read(&mut plaintext).expect("plaintext");
        plaintext.truncate(len);
        plaintext
    }

    fn assert_talks(&mut self) {
        self.session.write(b"from us", &mut self.session_output).expect("a write");
        self.peer.writer().write_all(b"from them").expect("a write");
        self.settle().expect("both read");
        assert_eq!(std::mem::take(&mut self.plaintext), b"from them");
        assert_eq!(self.peer_plaintext(), b"from us");
    }
}

fn record_count(mut wire: &[u8]) -> usize {
    let mut count = 0;
    while let Some(&[_, _, _, high, low]) = wire.first_chunk::<5>() {
        wire = &wire[5 + usize::from(u16::from_be_bytes([high, low]))..];
        count += 1;
    }
    count
}

/// A folder of its own, gone with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("corewire-tls-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn file(&self, name: &str, text: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("a file");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
