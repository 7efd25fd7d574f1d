//! What does `Session` cost on top of the cipher, and how does it grow from 128 B to 16 KiB?
//!
//! Each round encrypts one message on one session and decrypts it on the other. The yardstick in the same run is
//! rustls's buffered connection doing the same through its own vectors; read the ratio, not the time.
//! `cargo bench -p corewire --no-default-features --features tls --bench tls_record`
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

use std::hint::black_box;
use std::io::{Read, Write};
use std::sync::Arc;

use corewire::tls::{ClientTls, ServerTls, Session, Trust};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

/// One certificate for everybody.
struct Pem {
    cert: String,
    key: String,
}

impl Pem {
    fn new() -> Self {
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        Self { cert: certified.cert.pem(), key: certified.signing_key.serialize_pem() }
    }
}

/// Two sessions after their handshake.
fn sessions(pem: &Pem) -> (Session, Session) {
    let server = ServerTls::from_pem(pem.cert.as_bytes(), pem.key.as_bytes(), None).expect("a server");
    let client = ClientTls::new(Trust::Roots(pem.cert.as_bytes())).expect("a client");
    let mut far = client.session("localhost").expect("a session");
    let mut near = server.session().expect("a session");
    let (mut to_near, mut to_far, mut plaintext) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..3 {
        far.read(&mut to_far, &mut plaintext, &mut to_near).expect("the client reads");
        to_far.clear();
        near.read(&mut to_near, &mut plaintext, &mut to_far).expect("the server reads");
        to_near.clear();
    }
    (far, near)
}

/// Two buffered connections after their handshake.
fn connections(pem: &Pem) -> (ClientConnection, ServerConnection) {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let cert = CertificateDer::from_pem_slice(pem.cert.as_bytes()).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(pem.key.as_bytes()).expect("a key");
    let mut roots = RootCertStore::empty();
    roots.add(cert.clone()).expect("a root");
    let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![cert], key)
        .expect("a certificate");
    let name = ServerName::try_from("localhost").expect("a name");
    let mut far = ClientConnection::new(Arc::new(client), name).expect("a connection");
    let mut near = ServerConnection::new(Arc::new(server)).expect("a connection");
    for _ in 0..3 {
        let mut wire = Vec::new();
        while far.wants_write() {
            far.write_tls(&mut wire).expect("a vector never fails");
        }
        feed(&wire, |rest| near.read_tls(rest).map(|_| near.process_new_packets().map(drop)));
        let mut wire = Vec::new();
        while near.wants_write() {
            near.write_tls(&mut wire).expect("a vector never fails");
        }
        feed(&wire, |rest| far.read_tls(rest).map(|_| far.process_new_packets().map(drop)));
    }
    (far, near)
}

fn feed(mut wire: &[u8], mut read: impl FnMut(&mut &[u8]) -> std::io::Result<Result<(), rustls::Error>>) {
    while !wire.is_empty() {
        read(&mut wire).expect("room").expect("no fault");
    }
}

fn records(criterion: &mut Criterion) {
    let pem = Pem::new();
    let mut group = criterion.benchmark_group("tls_record");
    for size in [128, 16 << 10] {
        let message = vec![0x61; size];
        group.throughput(Throughput::Bytes(size as u64));
        let (mut far, mut near) = sessions(&pem);
        let (mut wire, mut plaintext, mut reply) = (Vec::new(), Vec::new(), Vec::new());
        group.bench_function(BenchmarkId::new("session", size), |bencher| {
            bencher.iter(|| {
                wire.clear();
                plaintext.clear();
                far.write(black_box(&message), &mut wire).expect("a write");
                near.read(&mut wire, &mut plaintext, &mut reply).expect("a read");
                assert_eq!(plaintext.len(), size);
            });
        });
        let (mut far, mut near) = connections(&pem);
        let (mut wire, mut plaintext) = (Vec::new(), vec![0; size]);
        group.bench_function(BenchmarkId::new("buffered_rustls", size), |bencher| {
            bencher.iter(|| {
                wire.clear();
                far.writer().write_all(black_box(&message)).expect("a write");
                while far.wants_write() {
                    far.write_tls(&mut wire).expect("a vector never fails");
                }
                feed(&wire, |rest| near.read_tls(rest).map(|_| near.process_new_packets().map(drop)));
                near.reader().read_exact(&mut plaintext).expect("plaintext");
            });
        });
    }
    group.finish();
}

criterion_group!(benches, records);
criterion_main!(benches);
