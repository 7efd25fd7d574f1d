//! Real servers, in this process or in one of their own, and clients that do as they are told, right or wrong.
//!
//! The client's framing shares no code with the server's. Everything waits at most [`PATIENCE`].

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]
#![allow(clippy::print_stderr, reason = "what led to a failure is shown beside it")]

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use corewire::connection::Random;
use corewire::handler::Handler;
use corewire::metrics::Counter;
use corewire::metrics::ShardMetrics;
use corewire::protocol::deflate::{Deflater, Inflater};
use corewire::server::{Builder, DriverChoice, Handle, Running, Server, StartError};

#[cfg(feature = "cli")]
pub mod binary;
#[cfg(feature = "cli")]
pub mod commands;
#[cfg(feature = "tls")]
pub mod pki;
#[cfg(feature = "webhooks")]
pub mod target;
#[cfg(feature = "cli")]
pub mod tokens;
#[cfg(feature = "cli")]
pub mod v1;

/// Longest wait for anything that should happen at once.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A way to run the server that a test must pass on.
#[derive(Clone, Copy, Debug)]
pub struct Variant {
    pub driver: DriverChoice,
    pub restless: bool,
}

/// Both drivers, and io_uring with connections that flip between cold and hot as often as they can.
pub const VARIANTS: [Variant; 3] = [
    Variant { driver: DriverChoice::IoUring, restless: false },
    Variant { driver: DriverChoice::IoUring, restless: true },
    Variant { driver: DriverChoice::Epoll, restless: false },
];

/// All [`VARIANTS`] at once: for tests that wait for time to pass, so that they can leave plenty of it.
pub fn at_once(test: impl Fn(Variant) + Sync) {
    let test = &test;
    thread::scope(|scope| {
        for variant in VARIANTS {
            scope.spawn(move || test(variant));
        }
    });
}

/// A server in this process. Stopped when dropped, and it must stop.
pub struct TestServer {
    pub addr: SocketAddr,
    pub handle: Handle,
    pub running: Option<Running>,
}

/// Starts a server on a port that the kernel chooses.
pub fn serve<H: Handler>(
    variant: Variant,
    configure: impl FnOnce(Builder) -> Builder,
    handler: impl Fn(usize) -> H + Send + Sync + 'static,
) -> TestServer {
    // Shown when the test fails.
    eprintln!("{variant:?}");
    let builder = configure(builder(variant)).listen("127.0.0.1:0".parse().unwrap());
    TestServer::new(builder.start(handler).expect("the server starts"))
}

/// What [`serve`] starts from.
pub fn builder(variant: Variant) -> Builder {
    Server::builder().driver(variant.driver).restless(variant.restless)
}

impl TestServer {
    pub fn new(running: Running) -> Self {
        let addr = running.local_addr().unwrap_or_else(|| ([0, 0, 0, 0], 0).into());
        Self { addr, handle: running.handle(), running: Some(running) }
    }

    /// The sum of one counter over all cores.
    pub fn sum(&self, of: impl Fn(&ShardMetrics) -> &Counter) -> u64 {
        self.handle.metrics().iter().map(|metrics| of(metrics).get()).sum()
    }

    /// Until nobody is connected any more.
    pub fn wait_until_empty(&self) {
        until("all connections are gone", || self.handle.connection_count() == 0);
    }

    /// Stops it and gives what it said.
    pub fn stop(mut self) -> Result<(), StartError> {
        stop(self.running.take().expect("it runs"))
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            let stopped = stop(running);
            if !thread::panicking() {
                stopped.expect("no core broke");
            }
        }
    }
}

fn stop(running: Running) -> Result<(), StartError> {
    bounded("the server stops", move || running.stop())
}

/// The outcome of something that must end by itself.
pub fn bounded<T: Send + 'static>(what: &str, act: impl FnOnce() -> T + Send + 'static) -> T {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || tell.send(act()));
    told.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"))
}

/// Waits until `condition` holds.
#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// A seed for random numbers, shown when the test fails, or `COREWIRE_TEST_SEED`.
pub fn random() -> Random {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let given = std::env::var("COREWIRE_TEST_SEED").ok().map(|seed| seed.parse().expect("a number"));
    let seed = given.unwrap_or_else(|| RandomState::new().build_hasher().finish());
    eprintln!("COREWIRE_TEST_SEED={seed}");
    Random::new(seed)
}

// ---- a client ------------------------------------------------------------------------------------------------

pub const CONTINUATION: u8 = 0;
pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// A frame as it came.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    pub fin: bool,
    pub rsv1: bool,
    pub opcode: u8,
    pub payload: Vec<u8>,
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = &self.payload[..self.payload.len().min(40)];
        let (len, text) = (self.payload.len(), String::from_utf8_lossy(shown));
        write!(f, "opcode {:#x} fin {} rsv1 {} {len} bytes {text:?}", self.opcode, self.fin, self.rsv1)
    }
}

/// A response head as it came, and the body as far as `Content-Length` says.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

/// Some kind of stream.
pub enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    #[cfg(feature = "tls")]
    Tls(Box<rustls::StreamOwned<rustls::ClientConnection, TcpStream>>),
}

impl Read for Socket {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buf),
            Self::Unix(stream) => stream.read(buf),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.read(buf),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(buf),
            Self::Unix(stream) => stream.write(buf),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.flush(),
            Self::Unix(stream) => stream.flush(),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.flush(),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.sock.as_fd(),
        }
    }
}

/// One connection of a client.
pub struct Client {
    pub socket: Socket,
    /// Read from the socket and not yet consumed.
    unread: Vec<u8>,
    consumed: usize,
}

impl Client {
    pub fn new(socket: Socket) -> Self {
        Self { socket, unread: Vec::new(), consumed: 0 }
    }

    /// Connects, and says nothing.
    pub fn tcp(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&addr, PATIENCE).expect("the server accepts");
        stream.set_nodelay(true).expect("an option");
        stream.set_read_timeout(Some(PATIENCE)).expect("an option");
        stream.set_write_timeout(Some(PATIENCE)).expect("an option");
        Self::new(Socket::Tcp(stream))
    }

    /// Connects with a small receive buffer, so that little fits between the server and who does not read.
    pub fn tcp_narrow(addr: SocketAddr) -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(4096).expect("an option");
        socket.connect(&addr.into()).expect("the server accepts");
        socket.set_read_timeout(Some(PATIENCE)).expect("an option");
        socket.set_write_timeout(Some(PATIENCE)).expect("an option");
        Self::new(Socket::Tcp(socket.into()))
    }

    /// Connects to a Unix socket, and says nothing.
    pub fn unix(path: &Path) -> Self {
        let stream = UnixStream::connect(path).expect("the server accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("an option");
        Self::new(Socket::Unix(stream))
    }

    /// An open WebSocket.
    pub fn open(addr: SocketAddr) -> Self {
        Self::tcp(addr).upgraded("")
    }

    /// An open WebSocket at this path.
    pub fn open_at(addr: SocketAddr, path: &str) -> Self {
        let mut client = Self::tcp(addr);
        let reply = client.ask(path, "");
        assert_eq!(reply.status, 101, "{reply:?}");
        client
    }

    /// An open WebSocket with permessage-deflate without contexts.
    pub fn open_deflate(addr: SocketAddr) -> Self {
        let mut client = Self::tcp(addr);
        let offer = "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover; \
                     server_no_context_takeover\r\n";
        client.send_raw(request("/", offer).as_bytes());
        let reply = client.reply();
        assert_eq!(reply.status, 101, "{reply:?}");
        let agreed = reply.header("sec-websocket-extensions").expect("an agreement");
        assert!(agreed.starts_with("permessage-deflate"), "{agreed}");
        client
    }

    /// Asks for a WebSocket with some more headers, and gets it.
    pub fn upgraded(mut self, headers: &str) -> Self {
        let reply = self.ask("/", headers);
        assert_eq!(reply.status, 101, "{reply:?}");
        assert_eq!(reply.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        self
    }

    /// Asks for a WebSocket.
    pub fn ask(&mut self, path: &str, headers: &str) -> Reply {
        self.send_raw(request(path, headers).as_bytes());
        self.reply()
    }

    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).expect("the server reads");
    }

    pub fn send(&mut self, opcode: u8, payload: &[u8]) {
        self.send_raw(&frame(opcode, payload));
    }

    pub fn send_text(&mut self, text: &str) {
        self.send(TEXT, text.as_bytes());
    }

    pub fn send_close(&mut self, code: u16, reason: &str) {
        self.send(CLOSE, &close_payload(code, reason));
    }

    /// A response head, and its body.
    #[track_caller]
    pub fn reply(&mut self) -> Reply {
        let end = loop {
            let here = &self.unread[self.consumed..];
            if let Some(end) = here.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            let so_far = String::from_utf8_lossy(here).into_owned();
            assert!(self.fill().expect("an answer"), "the end instead of an answer: {so_far:?}");
        };
        let head = String::from_utf8(self.take(end)).expect("a head in ASCII");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let mut reply = Reply { status, head, body: String::new() };
        let body_len = reply.header("content-length").map_or(0, |len| len.parse().expect("a length"));
        reply.body = String::from_utf8(self.exactly(body_len).expect("a body").expect("a whole body")).expect("a text");
        reply
    }

    /// The next line, without its line feed; `None` if the stream ends before it does.
    #[track_caller]
    pub fn line(&mut self) -> Option<String> {
        loop {
            let here = &self.unread[self.consumed..];
            if let Some(len) = here.iter().position(|&byte| byte == b'\n') {
                let line = String::from_utf8(self.take(len)).expect("a line of text");
                self.consumed += 1;
                return Some(line);
            }
            if !self.fill().expect("a line, or an end without a reset") {
                return None;
            }
        }
    }

    /// The next frame; `None` at the end of the stream.
    pub fn try_frame(&mut self) -> io::Result<Option<Frame>> {
        let Some(head) = self.exactly(2)? else { return Ok(None) };
        assert_eq!(head[1] & 0x80, 0, "a server does not mask");
        let len = match head[1] & 0x7F {
            126 => number(&self.exactly(2)?.ok_or(io::ErrorKind::UnexpectedEof)?),
            127 => number(&self.exactly(8)?.ok_or(io::ErrorKind::UnexpectedEof)?),
            short => usize::from(short),
        };
        let payload = self.exactly(len)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        assert_eq!(head[0] & 0x30, 0, "reserved bits");
        Ok(Some(Frame { fin: head[0] & 0x80 != 0, rsv1: head[0] & 0x40 != 0, opcode: head[0] & 0x0F, payload }))
    }

    /// The next frame.
    #[track_caller]
    pub fn frame(&mut self) -> Frame {
        match self.try_frame() {
            Ok(Some(frame)) => frame,
            Ok(None) => panic!("the end instead of a frame"),
            Err(error) => panic!("{error} instead of a frame"),
        }
    }

    /// The payload of the next frame, which is a message, inflated if need be.
    ///
    /// On a busy machine it may take so long that the server asks before whether anybody is there.
    #[track_caller]
    pub fn message(&mut self) -> (u8, Vec<u8>) {
        let mut frame = self.frame();
        while frame.opcode == PING && frame.payload.is_empty() {
            frame = self.frame();
        }
        assert!(frame.fin && (frame.opcode == TEXT || frame.opcode == BINARY), "{frame:?}");
        let payload = if frame.rsv1 { inflate(&frame.payload) } else { frame.payload };
        (frame.opcode, payload)
    }

    /// The next frame, which is a text message.
    #[track_caller]
    pub fn text(&mut self) -> String {
        let (opcode, payload) = self.message();
        assert_eq!(opcode, TEXT);
        String::from_utf8(payload).expect("a text")
    }

    /// The next frame, which is a Close: code and reason; 1005 if there is none.
    #[track_caller]
    pub fn close_frame(&mut self) -> (u16, String) {
        let frame = self.frame();
        assert_eq!(frame.opcode, CLOSE, "{frame:?}");
        close_parts(&frame.payload)
    }

    /// The end of the stream, without a reset, and nothing before it.
    #[track_caller]
    pub fn end(&mut self) {
        let rest = self.rest();
        assert!(rest.is_empty(), "{} bytes before the end: {:?}", rest.len(), String::from_utf8_lossy(&rest));
    }

    /// Everything up to the end of the stream, which comes without a reset.
    #[track_caller]
    pub fn rest(&mut self) -> Vec<u8> {
        while self.fill().expect("an end without a reset") {}
        self.take(self.unread.len() - self.consumed)
    }

    /// Waits for the end of the stream, be it orderly or not.
    #[track_caller]
    pub fn gone(&mut self) {
        loop {
            match self.fill() {
                Ok(true) => self.consumed = self.unread.len(),
                Ok(false) => return,
                Err(error) if is_timeout(&error) => panic!("still connected"),
                Err(_) => return,
            }
        }
    }

    /// Whether anything comes within the read timeout.
    pub fn peek(&mut self) -> bool {
        match self.fill() {
            Ok(more) => more,
            Err(error) if is_timeout(&error) => false,
            Err(error) => panic!("{error}"),
        }
    }

    /// FIN: nothing more is sent.
    pub fn fin(&self) {
        match &self.socket {
            Socket::Tcp(stream) => stream.shutdown(Shutdown::Write).expect("a FIN"),
            Socket::Unix(stream) => stream.shutdown(Shutdown::Write).expect("a FIN"),
            #[cfg(feature = "tls")]
            Socket::Tls(stream) => stream.sock.shutdown(Shutdown::Write).expect("a FIN"),
        }
    }

    /// RST, whatever is on its way.
    pub fn reset(self) {
        rustix::net::sockopt::set_socket_linger(&self.socket, Some(Duration::ZERO)).expect("an option");
    }

    /// The closing handshake, begun here, up to the end of the stream.
    #[track_caller]
    pub fn close(mut self) {
        self.send_close(1000, "");
        assert_eq!(self.close_frame(), (1000, String::new()));
        self.end();
    }

    /// A second end of the same TCP connection, to write while this one reads.
    pub fn writer(&self) -> TcpStream {
        match &self.socket {
            Socket::Tcp(stream) => stream.try_clone().expect("a descriptor"),
            _ => panic!("only TCP streams are split"),
        }
    }

    pub fn set_read_timeout(&self, timeout: Duration) {
        match &self.socket {
            Socket::Tcp(stream) => stream.set_read_timeout(Some(timeout)).expect("an option"),
            Socket::Unix(stream) => stream.set_read_timeout(Some(timeout)).expect("an option"),
            #[cfg(feature = "tls")]
            Socket::Tls(stream) => stream.sock.set_read_timeout(Some(timeout)).expect("an option"),
        }
    }

    /// Reads some; `false` at the end.
    fn fill(&mut self) -> io::Result<bool> {
        if self.consumed == self.unread.len() {
            self.unread.clear();
            self.consumed = 0;
        }
        let old_len = self.unread.len();
        self.unread.resize(old_len + READ_BYTES, 0);
        let read = loop {
            match self.socket.read(&mut self.unread[old_len..]) {
                // Somebody has stopped this process for a while.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        self.unread.truncate(old_len + *read.as_ref().unwrap_or(&0));
        Ok(read? > 0)
    }

    /// So many bytes; `None` if the stream ends before the first of them.
    fn exactly(&mut self, len: usize) -> io::Result<Option<Vec<u8>>> {
        while self.unread.len() - self.consumed < len {
            if !self.fill()? {
                let any = self.unread.len() > self.consumed;
                return if any { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(None) };
            }
        }
        Ok(Some(self.take(len)))
    }

    fn take(&mut self, len: usize) -> Vec<u8> {
        let taken = self.unread[self.consumed..][..len].to_vec();
        self.consumed += len;
        taken
    }
}

/// A request for a WebSocket. `headers` end with CR LF each.
pub fn request(path: &str, headers: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n"
    )
}

/// A whole, masked frame.
pub fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    raw_frame(0x80 | opcode, payload)
}

/// A masked frame with this first byte.
pub fn raw_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const KEY: u64 = u64::from_ne_bytes([0x37, 0xFA, 0x21, 0x3D, 0x37, 0xFA, 0x21, 0x3D]);
    let mut frame = vec![first];
    match payload.len() {
        len @ ..126 => frame.push(0x80 | len as u8),
        len @ 126..65_536 => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&KEY.to_ne_bytes()[..4]);
    for chunk in payload.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        let masked = (u64::from_ne_bytes(word) ^ KEY).to_ne_bytes();
        frame.extend_from_slice(&masked[..chunk.len()]);
    }
    frame
}

/// A whole, masked, compressed frame.
pub fn deflated_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut deflated = Vec::new();
    Deflater::new(15, 1).deflate(payload, &mut deflated, false);
    raw_frame(0xC0 | opcode, &deflated)
}

pub fn inflate(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Inflater::new(15).inflate(payload, &mut out, 64 << 20, false).expect("a deflate stream");
    out
}

pub fn close_payload(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes(), reason.as_bytes()].concat()
}

/// Code and reason of a Close frame.
pub fn close_parts(payload: &[u8]) -> (u16, String) {
    match payload {
        [] => (1005, String::new()),
        [high, low, reason @ ..] => {
            (u16::from_be_bytes([*high, *low]), String::from_utf8(reason.to_vec()).expect("a text"))
        }
        [_] => panic!("a close payload of one byte"),
    }
}

pub fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// A length below 2^`bits_max`: as often small as large.
pub fn any_len(bits_max: u64, random: &mut Random) -> usize {
    let bits = random.below(bits_max);
    random.below(1 << bits) as usize
}

/// Bytes that do not repeat soon.
pub fn noise(len: usize, random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&random.next_u64().to_ne_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Text of so many bytes, with characters of one to four bytes.
pub fn words(len: usize, random: &mut Random) -> Vec<u8> {
    let mut text = String::with_capacity(len + 8);
    while text.len() < len {
        let word = ["a", "é", "€", "😀", " and ", "0123456789", "the same again and again, "][random.below(7) as usize];
        text.push_str(word);
    }
    while text.len() > len {
        text.pop();
    }
    while text.len() < len {
        text.push('.');
    }
    text.into_bytes()
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte))
}

/// A folder of its own, gone with the test.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("corewire-e2e-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What threads of the server tell a test, in order.
#[derive(Default)]
pub struct Journal(Mutex<Vec<String>>);

impl Journal {
    pub fn note(&self, what: impl Into<String>) {
        self.0.lock().expect("no panic while it was held").push(what.into());
    }

    pub fn all(&self) -> Vec<String> {
        self.0.lock().expect("no panic while it was held").clone()
    }

    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().expect("no panic while it was held"))
    }

    pub fn count(&self, what: &str) -> usize {
        self.all().iter().filter(|noted| *noted == what).count()
    }

    #[track_caller]
    pub fn wait_for(&self, what: &str) {
        let start = Instant::now();
        while self.count(what) == 0 {
            assert!(start.elapsed() < PATIENCE, "{what:?} was not noted, but {:?}", self.all());
            thread::sleep(Duration::from_millis(2));
        }
    }
}

const READ_BYTES: usize = 64 << 10;
