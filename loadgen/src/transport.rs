//! Opening a connection: TCP, TLS, the opening handshake. Knows nothing of what is said afterwards.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use corewire::connection::{Connection, Random, Tick, Workspace};
use corewire::protocol::Role;
use corewire::protocol::deflate::{Agreement, DeflateOptions};
use corewire::protocol::handshake::{ClientHandshake, ClientHandshakeError, KEY_LEN, ResponseProgress};
use corewire::tls::{ClientTls, Session, TlsError, TlsSetupError, Trust};
use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::TcpStream;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::target::{Scheme, Target};

/// How to reach a server.
pub(crate) struct Dial {
    pub(crate) target: Target,
    pub(crate) address: SocketAddr,
    /// For `wss://`.
    pub(crate) tls: Option<TlsDial>,
    /// Header fields beyond those of the handshake.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) subprotocols: Vec<String>,
    /// Offer permessage-deflate (RFC 7692).
    pub(crate) compress: bool,
    /// From the first packet to the open WebSocket.
    pub(crate) timeout: Duration,
    /// Whether the runtime is io_uring, which wants sockets that block.
    pub(crate) ring: bool,
}

/// How TLS is spoken.
#[derive(Clone, Debug)]
pub(crate) struct TlsDial {
    /// Shares tickets, so that sessions are resumed.
    shared: ClientTls,
    /// Authorities in PEM; anybody is trusted without them.
    roots: Option<Vec<u8>>,
    /// Every handshake is a full one.
    full: bool,
}

impl TlsDial {
    pub(crate) fn new(roots: Option<Vec<u8>>, full: bool) -> Result<Self, String> {
        let shared = client_of(roots.as_deref()).map_err(|error| format!("TLS cannot be set up: {error}"))?;
        Ok(Self { shared, roots, full })
    }

    fn client(&self) -> Result<ClientTls, OpenError> {
        // One that has no tickets.
        if self.full { client_of(self.roots.as_deref()).map_err(OpenError::TlsSetup) } else { Ok(self.shared.clone()) }
    }
}

fn client_of(roots: Option<&[u8]>) -> Result<ClientTls, TlsSetupError> {
    ClientTls::new(roots.map_or(Trust::Insecure, Trust::Roots))
}

/// A connection that has just been opened.
pub(crate) struct Opened {
    pub(crate) stream: TcpStream,
    pub(crate) connection: Connection,
    pub(crate) tls: Option<Box<TlsEnds>>,
    /// What came behind the answer.
    pub(crate) leftover: Vec<u8>,
    pub(crate) facts: OpenFacts,
}

/// What opening took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OpenFacts {
    /// From the first packet to the open WebSocket.
    pub(crate) total_ns: u64,
    pub(crate) tls_resumed: bool,
    /// The server took permessage-deflate.
    pub(crate) compressed: bool,
}

/// Why a connection could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("{0} refused the connection: is the server running, and on this port?")]
    Refused(SocketAddr),
    #[error(
        "this process is out of file descriptors (its limit is {0}); raise it with `ulimit -n`, or use --processes"
    )]
    OutOfDescriptors(u64),
    #[error("no port is left from {0} to the server; more source addresses would lift that")]
    OutOfPorts(IpAddr),
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    #[error("the kernel has no memory left for another connection: {0}")]
    OutOfMemory(io::Error),
    #[error("TLS cannot be set up: {0}")]
    TlsSetup(TlsSetupError),
    #[error("TLS failed: {0}{hint}", hint = tls_hint(.0))]
    Tls(#[from] TlsError),
    #[error("the handshake failed: {0}{hint}", hint = handshake_hint(.0))]
    Handshake(#[from] ClientHandshakeError),
    #[error("the server closed the connection during the {0}")]
    Closed(&'static str),
    #[error("nothing was open after {0:?}")]
    TimedOut(Duration),
}

impl OpenError {
    /// A short name to count it under.
    pub(crate) fn kind(&self) -> String {
        match self {
            Self::Refused(_) => "connect_refused".to_owned(),
            Self::OutOfDescriptors(_) => "out_of_descriptors".to_owned(),
            Self::OutOfPorts(_) => "out_of_ports".to_owned(),
            Self::Io(error) => format!("connect_{}", io_kind(error)),
            Self::OutOfMemory(_) => "out_of_memory".to_owned(),
            Self::TlsSetup(_) | Self::Tls(_) => "tls".to_owned(),
            Self::Handshake(ClientHandshakeError::Refused { status, .. }) => format!("handshake_{status}"),
            Self::Handshake(_) => "handshake_invalid".to_owned(),
            Self::Closed(_) => "closed_while_opening".to_owned(),
            Self::TimedOut(_) => "open_timeout".to_owned(),
        }
    }
}

/// What may help against a failure of TLS.
fn tls_hint(error: &TlsError) -> &'static str {
    match error {
        TlsError::PlainHttp => ": try ws:// instead of wss://",
        TlsError::CertificateRefused(_) => {
            ": --tls-roots must hold the authority that signed it, and the URL the name that it was made for"
        }
        _ => "",
    }
}

/// What may help against an answer that makes no WebSocket.
fn handshake_hint(error: &ClientHandshakeError) -> &'static str {
    match error {
        ClientHandshakeError::Refused { status, .. } => match status {
            200..=299 => ": that is a page, not a WebSocket; is the path right?",
            300..=399 => {
                ": it points elsewhere, and this tool does not follow; give it the URL that is meant in the end"
            }
            401 | 403 => ": it may want a --header, like Origin or Authorization",
            404 => ": is the path right?",
            429 | 503 => ": it has enough; try fewer --connections, or a --ramp",
            _ => "",
        },
        ClientHandshakeError::Malformed => ": is it a WebSocket server? If it speaks TLS, try wss://",
        _ => "",
    }
}

/// A short name for an error of the kernel.
pub(crate) fn io_kind(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionReset => "reset".to_owned(),
        io::ErrorKind::BrokenPipe => "broken_pipe".to_owned(),
        io::ErrorKind::TimedOut => "timed_out".to_owned(),
        _ => error.raw_os_error().map_or_else(|| "other".to_owned(), |errno| format!("errno_{errno}")),
    }
}

/// Opens a connection, from `source` if it is given.
pub(crate) async fn open(
    dial: &Dial,
    path: String,
    source: Option<IpAddr>,
    random: &mut Random,
    workspace: &mut Workspace,
) -> Result<Opened, OpenError> {
    let began = Instant::now();
    let mut stream = connect(dial, source).await?;
    let mut tls = match &dial.tls {
        Some(tls) => Some(shake_tls(&mut stream, &tls.client()?, &dial.target.host).await?),
        None => None,
    };
    let (role, Upgraded { leftover, agreement }) = match dial.target.scheme {
        Scheme::Ws | Scheme::Wss => (Role::Client, upgrade(&mut stream, &mut tls, dial, path, random).await?),
        // What comes back are our own frames, masked: we read them as a server would.
        Scheme::Tcp => (Role::Server, Upgraded { leftover: Vec::new(), agreement: None }),
    };
    let facts = OpenFacts {
        total_ns: began.elapsed().as_nanos() as u64,
        tls_resumed: tls.as_ref().is_some_and(|tls| tls.session.facts().resumed),
        compressed: agreement.is_some(),
    };
    let connection = Connection::established(role, agreement, workspace, Tick(0));
    Ok(Opened { stream, connection, tls, leftover, facts })
}

async fn connect(dial: &Dial, source: Option<IpAddr>) -> Result<TcpStream, OpenError> {
    let socket = Socket::new(Domain::for_address(dial.address), Type::STREAM, Some(Protocol::TCP))
        .map_err(|error| explain(error, dial, source))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(source) = source {
        socket.bind(&SocketAddr::new(source, 0).into()).map_err(|error| explain(error, dial, Some(source)))?;
    }
    let begun = socket.connect(&dial.address.into());
    let stream = TcpStream::from_std(socket.into())?;
    match begun {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {
            stream.writable(false).await?;
            if let Some(error) = SockRef::from(&descriptor(&stream)).take_error()? {
                return Err(explain(error, dial, source));
            }
        }
        Err(error) => return Err(explain(error, dial, source)),
    }
    if dial.ring {
        // A ring answers EAGAIN instead of waiting where a socket does not block.
        SockRef::from(&descriptor(&stream)).set_nonblocking(false)?;
    }
    Ok(stream)
}

fn descriptor(stream: &TcpStream) -> BorrowedFd<'_> {
    // SAFETY: the stream owns the descriptor and is borrowed for as long as the result lives.
    unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) }
}

fn explain(error: io::Error, dial: &Dial, source: Option<IpAddr>) -> OpenError {
    let errno = error.raw_os_error().map(rustix::io::Errno::from_raw_os_error);
    match errno {
        Some(rustix::io::Errno::CONNREFUSED) => OpenError::Refused(dial.address),
        Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE) => {
            let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
            OpenError::OutOfDescriptors(limit.unwrap_or(u64::MAX))
        }
        Some(rustix::io::Errno::ADDRNOTAVAIL | rustix::io::Errno::ADDRINUSE) => {
            OpenError::OutOfPorts(source.unwrap_or(dial.address.ip()))
        }
        Some(rustix::io::Errno::NOMEM | rustix::io::Errno::NOBUFS) => OpenError::OutOfMemory(error),
        _ => OpenError::Io(error),
    }
}

/// A TLS session and the record that a read cut.
pub(crate) struct TlsEnds {
    session: Session,
    cut: Vec<u8>,
}

impl TlsEnds {
    /// Decrypts what arrived behind `plaintext`; what TLS itself has to say goes behind `reply`.
    pub(crate) fn open(
        &mut self,
        arrived: &mut [u8],
        plaintext: &mut Vec<u8>,
        reply: &mut Vec<u8>,
    ) -> Result<(), TlsError> {
        if self.cut.is_empty() {
            let progress = self.session.read(arrived, plaintext, reply)?;
            self.cut.extend_from_slice(&arrived[progress.consumed..]);
        } else {
            self.cut.extend_from_slice(arrived);
            let progress = self.session.read(&mut self.cut, plaintext, reply)?;
            self.cut.drain(..progress.consumed);
        }
        Ok(())
    }

    /// Encrypts `plaintext` behind `sealed`.
    pub(crate) fn seal(&mut self, plaintext: &[u8], sealed: &mut Vec<u8>) -> Result<(), TlsError> {
        self.session.write(plaintext, sealed)
    }
}

async fn shake_tls(stream: &mut TcpStream, client: &ClientTls, host: &str) -> Result<Box<TlsEnds>, OpenError> {
    let mut tls = Box::new(TlsEnds { session: client.session(host)?, cut: Vec::new() });
    let (mut plaintext, mut reply) = (Vec::new(), Vec::new());
    tls.open(&mut [], &mut plaintext, &mut reply)?;
    let mut buffer = Vec::with_capacity(HANDSHAKE_READ_BYTES);
    loop {
        if !reply.is_empty() {
            reply = write_all(stream, reply).await?;
        }
        if !tls.session.is_handshaking() {
            return Ok(tls);
        }
        buffer = read_some(stream, buffer, "TLS handshake").await?;
        tls.open(&mut buffer, &mut plaintext, &mut reply)?;
    }
}

/// What the opening handshake came to.
struct Upgraded {
    /// What came behind the answer.
    leftover: Vec<u8>,
    agreement: Option<Agreement>,
}

/// The opening handshake.
async fn upgrade(
    stream: &mut TcpStream,
    tls: &mut Option<Box<TlsEnds>>,
    dial: &Dial,
    path: String,
    random: &mut Random,
) -> Result<Upgraded, OpenError> {
    let handshake = ClientHandshake::new(
        dial.target.host_field(),
        path,
        random_key(random),
        dial.subprotocols.clone(),
        dial.compress.then_some(OFFER),
        dial.headers.clone(),
    )?;
    let mut request = Vec::new();
    handshake.write_request(&mut request);
    if let Some(tls) = tls {
        let mut sealed = Vec::new();
        tls.seal(&request, &mut sealed)?;
        request = sealed;
    }
    write_all(stream, request).await?;
    let mut answer = Vec::new();
    let mut buffer = Vec::with_capacity(HANDSHAKE_READ_BYTES);
    loop {
        buffer = read_some(stream, buffer, "opening handshake").await?;
        match tls {
            None => answer.extend_from_slice(&buffer),
            Some(tls) => {
                let mut reply = Vec::new();
                tls.open(&mut buffer, &mut answer, &mut reply)?;
                write_all(stream, reply).await?;
            }
        }
        if let ResponseProgress::Complete { len, agreement, .. } = handshake.check_response(&answer)? {
            answer.drain(..len);
            return Ok(Upgraded { leftover: answer, agreement });
        }
    }
}

/// Writes everything and gives the buffer back, empty.
async fn write_all(stream: &mut TcpStream, bytes: Vec<u8>) -> io::Result<Vec<u8>> {
    let (result, mut bytes) = stream.write_all(bytes).await;
    bytes.clear();
    result.map(|_| bytes)
}

/// Reads at least one byte.
async fn read_some(stream: &mut TcpStream, mut buffer: Vec<u8>, during: &'static str) -> Result<Vec<u8>, OpenError> {
    buffer.clear();
    let (result, buffer) = stream.read(buffer).await;
    match result? {
        0 => Err(OpenError::Closed(during)),
        _ => Ok(buffer),
    }
}

fn random_key(random: &mut Random) -> [u8; KEY_LEN] {
    let mut key = [0; KEY_LEN];
    for half in key.chunks_exact_mut(8) {
        half.copy_from_slice(&random.next_u64().to_ne_bytes());
    }
    key
}

/// What `--compress` asks for. All that the server may want to limit, it may; we keep no window between messages, so that
/// thousands of connections do not need as many compressors here.
const OFFER: DeflateOptions = DeflateOptions {
    server_no_context_takeover: false,
    client_no_context_takeover: true,
    server_max_window_bits: 15,
    client_max_window_bits: 15,
};
const HANDSHAKE_READ_BYTES: usize = 8 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_refuses_is_said_in_words() {
        let dial = Dial {
            target: Target::parse("ws://127.0.0.1:9/").unwrap(),
            address: "127.0.0.1:9".parse().unwrap(),
            tls: None,
            headers: Vec::new(),
            subprotocols: Vec::new(),
            compress: false,
            timeout: Duration::from_secs(1),
            ring: true,
        };
        let cases = [
            (rustix::io::Errno::MFILE, "out_of_descriptors", "ulimit -n"),
            (rustix::io::Errno::NFILE, "out_of_descriptors", "ulimit -n"),
            (rustix::io::Errno::ADDRNOTAVAIL, "out_of_ports", "more source addresses"),
            (rustix::io::Errno::CONNREFUSED, "connect_refused", "is the server running"),
            (rustix::io::Errno::NOMEM, "out_of_memory", "no memory left"),
            (rustix::io::Errno::CONNRESET, "connect_reset", "the connection failed"),
        ];
        for (errno, kind, words) in cases {
            let error = explain(errno.into(), &dial, None);
            assert_eq!(error.kind(), kind);
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}
