//! What an idle TLS session costs in bytes of heap, seen from the server.
//!
//! Prints the figures that the documentation of `Session` quotes:
//! `cargo test -p corewire --no-default-features --features tls --test tls_memory -- --nocapture`
#![cfg(feature = "tls")]
#![allow(clippy::print_stdout, reason = "the figures are what this test is for")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};

use corewire::tls::{ClientTls, RECORD_BYTES_MAX, ServerTls, Session};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

/// The system's allocator with a count of the bytes that are out, and of the sizes they went out in.
struct Counting;

static LIVE_BYTES: AtomicIsize = AtomicIsize::new(0);
/// Allocations less releases, by size in bytes; the last slot takes all that is larger.
static LIVE_COUNTS: [AtomicIsize; SIZE_SLOTS] = [const { AtomicIsize::new(0) }; SIZE_SLOTS];
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
const SIZE_SLOTS: usize = 8192;

fn count(size: usize, by: isize) {
    LIVE_BYTES.fetch_add(size as isize * by, Ordering::Relaxed);
    LIVE_COUNTS[size.min(SIZE_SLOTS - 1)].fetch_add(by, Ordering::Relaxed);
}

// SAFETY: every call goes to the system's allocator as it came; counting touches no memory of the caller's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: `pointer` came from `System.alloc` with this layout, as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// The C library's own view: it also sees what the crypto library allocates on its side of the border.
mod c {
    #[repr(C)]
    #[derive(Clone, Copy)]
    pub(super) struct Mallinfo2 {
        pub(super) before: [usize; 7],
        /// Bytes in allocations that are out, with the allocator's overhead.
        pub(super) uordblks: usize,
        pub(super) after: [usize; 2],
    }
    unsafe extern "C" {
        pub(super) safe fn mallinfo2() -> Mallinfo2;
    }
}

fn process_bytes() -> isize {
    c::mallinfo2().uordblks as isize
}

struct Idle {
    /// Bytes that Rust code allocated, per session.
    rust_bytes: isize,
    /// Bytes that the process allocated in C or Rust, with the allocator's overhead, per session.
    process_bytes: isize,
    sizes: BTreeMap<usize, isize>,
}

/// Finishes `SESSIONS` handshakes and counts what the server's calls have left allocated.
fn measure(server: &ServerTls, client: &ClientTls) -> Idle {
    let mut ends: Vec<Session> = Vec::with_capacity(SESSIONS);
    let mut buffers = Buffers::default();
    let before_counts: Vec<isize> = LIVE_COUNTS.iter().map(|slot| slot.load(Ordering::Relaxed)).collect();
    let (rust_before, process_before) = (LIVE_BYTES.load(Ordering::Relaxed), process_bytes());
    for _ in 0..SESSIONS {
        ends.push(buffers.handshake(server, client));
    }
    // The clients are gone; what is left is the servers'.
    let sizes = LIVE_COUNTS
        .iter()
        .enumerate()
        .map(|(size, slot)| (size, (slot.load(Ordering::Relaxed) - before_counts[size]) / SESSIONS as isize))
        .filter(|&(_, live)| live != 0)
        .collect();
    let idle = Idle {
        rust_bytes: (LIVE_BYTES.load(Ordering::Relaxed) - rust_before) / SESSIONS as isize,
        process_bytes: (process_bytes() - process_before) / SESSIONS as isize,
        sizes,
    };
    drop(ends);
    idle
}

/// The caller's buffers, made once so that they do not count.
struct Buffers {
    to_server: Vec<u8>,
    to_client: Vec<u8>,
    plaintext: Vec<u8>,
}

impl Default for Buffers {
    fn default() -> Self {
        let buffer = || Vec::with_capacity(4 * RECORD_BYTES_MAX);
        Self { to_server: buffer(), to_client: buffer(), plaintext: buffer() }
    }
}

impl Buffers {
    /// A whole handshake and one message each way; returns the server's end.
    fn handshake(&mut self, server: &ServerTls, client: &ClientTls) -> Session {
        let mut near = server.session().expect("a server session");
        let mut far = client.session("localhost").expect("a client session");
        self.turn(&mut near, &mut far);
        assert!(!near.is_handshaking() && !far.is_handshaking());
        far.write(b"hello", &mut self.to_server).expect("the client writes");
        near.write(b"hello", &mut self.to_client).expect("the server writes");
        self.turn(&mut near, &mut far);
        assert_eq!(self.plaintext, b"hellohello");
        self.plaintext.clear();
        near
    }

    fn turn(&mut self, near: &mut Session, far: &mut Session) {
        for _ in 0..4 {
            far.read(&mut self.to_client, &mut self.plaintext, &mut self.to_server).expect("the client reads");
            self.to_client.clear();
            near.read(&mut self.to_server, &mut self.plaintext, &mut self.to_client).expect("the server reads");
            self.to_server.clear();
        }
    }
}

fn client(cert_pem: &[u8], version: &'static SupportedProtocolVersion) -> ClientTls {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(cert_pem).expect("a certificate")).expect("a root");
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_root_certificates(roots)
        .with_no_client_auth();
    // A client that remembers tickets would be counted.
    config.resumption = Resumption::disabled();
    ClientTls::from_config(config)
}

#[test]
fn an_idle_session_stays_below_its_target() {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let cert_pem = certified.cert.pem();
    let key_pem = certified.signing_key.serialize_pem();
    let server = ServerTls::from_pem(cert_pem.as_bytes(), key_pem.as_bytes(), None).expect("a server");
    for (name, version) in [("1.3", &rustls::version::TLS13), ("1.2", &rustls::version::TLS12)] {
        let client = client(cert_pem.as_bytes(), version);
        // Whatever is made once is made here.
        drop(measure(&server, &client));
        let idle = measure(&server, &client);
        println!(
            "TLS {name}: {} bytes from Rust, {} in the process, per idle session; live allocations by size: {:?}",
            idle.rust_bytes, idle.process_bytes, idle.sizes
        );
        assert!(idle.process_bytes < IDLE_BYTES_TARGET, "TLS {name}");
        // What the metrics say of a session.
        let said = Session::IDLE_BYTES as isize;
        assert!((idle.process_bytes - said).abs() < said / 5, "TLS {name}: {} of {said}", idle.process_bytes);
    }
}

const SESSIONS: usize = 64;
const IDLE_BYTES_TARGET: isize = 7 << 10;
