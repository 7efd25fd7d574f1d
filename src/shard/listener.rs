//! Listening sockets: one per core for an address, one for all cores for a path.

use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddr {
    /// An address and port; port 0 lets the kernel choose one, the same for all cores.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix {
        /// Its file.
        path: PathBuf,
        /// Permission bits of the file.
        mode: u32,
    },
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Unix { path, .. } => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Why it cannot listen somewhere.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// SO_REUSEPORT would let two servers share the port in silence, so this is asked first.
    #[error("{addr} is served by another process already; stop it, or listen elsewhere")]
    Taken {
        /// Where.
        addr: ListenAddr,
    },
    /// The path exists and is no socket.
    #[error("{path} exists and is not a socket; it is left alone, listen elsewhere")]
    NotASocket {
        /// The path.
        path: String,
    },
    /// The kernel refused.
    #[error("cannot listen on {addr}: {error}")]
    Refused {
        /// Where.
        addr: ListenAddr,
        /// The kernel's reason.
        error: io::Error,
    },
}

/// One core's end of a listening address.
pub(crate) struct Listener {
    fd: OwnedFd,
    pub(super) shared: bool,
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A bound address: a listener for each core, and what must be undone at the end.
pub(crate) struct Bound {
    /// With the port that the kernel chose, if it was asked to.
    pub(crate) addr: ListenAddr,
    /// By core.
    pub(crate) listeners: Vec<Listener>,
}

/// Binds `addr` for `core_count` cores.
pub(crate) fn bind(addr: &ListenAddr, core_count: usize) -> Result<Bound, ListenError> {
    match addr {
        ListenAddr::Tcp(tcp) => bind_tcp(*tcp, core_count),
        ListenAddr::Unix { path, mode } => bind_unix(path, *mode, core_count),
    }
}

/// Takes the file of a Unix socket away when the server ends.
pub(crate) fn unbind(addr: &ListenAddr) {
    if let ListenAddr::Unix { path, .. } = addr
        && let Err(error) = fs::remove_file(path)
    {
        tracing::warn!(path = %path.display(), %error, "the socket's file could not be removed");
    }
}

fn bind_tcp(addr: SocketAddr, core_count: usize) -> Result<Bound, ListenError> {
    let refused = |error| ListenError::Refused { addr: ListenAddr::Tcp(addr), error };
    if addr.port() != 0 {
        refuse_if_taken(addr)?;
    }
    let first = listen_tcp(addr).map_err(refused)?;
    let local = first.local_addr().map_err(refused)?.as_socket().unwrap_or(addr);
    let mut sockets = vec![first];
    for _ in 1..core_count {
        sockets.push(listen_tcp(local).map_err(refused)?);
    }
    let listeners = sockets.into_iter().map(|socket| Listener { fd: socket.into(), shared: false }).collect();
    Ok(Bound { addr: ListenAddr::Tcp(local), listeners })
}

/// A bind without SO_REUSEPORT fails where any other socket listens.
fn refuse_if_taken(addr: SocketAddr) -> Result<(), ListenError> {
    let probe = || -> io::Result<()> {
        let socket = new_tcp(addr)?;
        socket.bind(&addr.into())
    };
    match probe() {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            Err(ListenError::Taken { addr: ListenAddr::Tcp(addr) })
        }
        Err(error) => Err(ListenError::Refused { addr: ListenAddr::Tcp(addr), error }),
    }
}

fn new_tcp(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    Ok(socket)
}

/// Accepted sockets inherit these options from the listener, so accepting costs no further call.
fn listen_tcp(addr: SocketAddr) -> io::Result<Socket> {
    let socket = new_tcp(addr)?;
    socket.set_reuse_port(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    socket.set_keepalive(true)?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new().with_time(KEEPALIVE_TIME).with_interval(KEEPALIVE_INTERVAL).with_retries(3),
    )?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

fn bind_unix(path: &Path, mode: u32, core_count: usize) -> Result<Bound, ListenError> {
    let addr = ListenAddr::Unix { path: path.to_owned(), mode };
    let refused = |error| ListenError::Refused { addr: addr.clone(), error };
    remove_stale(path, &addr)?;
    let listener = UnixListener::bind(path).map_err(refused)?;
    let prepare = || {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        listener.set_nonblocking(true)?;
        (0..core_count)
            .map(|_| Ok(Listener { fd: listener.as_fd().try_clone_to_owned()?, shared: true }))
            .collect::<io::Result<Vec<_>>>()
    };
    let listeners = prepare().map_err(refused)?;
    Ok(Bound { addr: addr.clone(), listeners })
}

/// A socket's file outlives a server that was killed. It goes only if nobody answers on it.
fn remove_stale(path: &Path, addr: &ListenAddr) -> Result<(), ListenError> {
    let refused = |error| ListenError::Refused { addr: addr.clone(), error };
    let kind = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(refused(error)),
    };
    if !kind.is_socket() {
        return Err(ListenError::NotASocket { path: path.display().to_string() });
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(ListenError::Taken { addr: addr.clone() }),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(refused),
        Err(error) => Err(refused(error)),
    }
}

/// The kernel cuts it to net.core.somaxconn.
const BACKLOG: i32 = 65_535;
/// A peer that acknowledges nothing for so long is gone (RFC 5482).
const USER_TIMEOUT: Duration = Duration::from_secs(30);
/// Keepalive probes find peers that vanished while both sides were silent.
const KEEPALIVE_TIME: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::super::kernel::{self, Accepted};
    use super::*;

    /// Accepting sets no option, so what the listener has must be what its sockets have.
    #[test]
    fn accepted_sockets_inherit_the_options_of_their_listener() {
        for addr in ["127.0.0.1:0", "[::1]:0"] {
            let Bound { addr, listeners } =
                bind(&ListenAddr::Tcp(addr.parse().expect("an address")), 2).expect("bound");
            let ListenAddr::Tcp(addr) = addr else { panic!("TCP was asked for") };
            // Which of the two the kernel takes is its own choice.
            let _peer = std::net::TcpStream::connect(addr).expect("somebody listens");
            let accepted = std::iter::repeat(&listeners).flatten().find_map(|listener| {
                match kernel::accept(listener.as_fd(), false) {
                    Accepted::Socket(fd, _) => Some(Socket::from(fd)),
                    _ => None,
                }
            });
            let socket = accepted.expect("a connection waits");
            assert!(socket.tcp_nodelay().expect("an option"));
            assert!(socket.keepalive().expect("an option"));
            assert_eq!(socket.tcp_keepalive_time().expect("an option"), KEEPALIVE_TIME);
            assert_eq!(socket.tcp_keepalive_interval().expect("an option"), KEEPALIVE_INTERVAL);
            assert_eq!(socket.tcp_user_timeout().expect("an option"), Some(USER_TIMEOUT));
            assert!(!socket.nonblocking().expect("a flag"), "posted receives need a blocking socket");
        }
    }

    #[test]
    fn all_cores_listen_on_the_port_that_the_kernel_chose_for_the_first() {
        let bound = bind(&ListenAddr::Tcp("127.0.0.1:0".parse().expect("an address")), 4).expect("bound");
        let ports: Vec<_> =
            bound.listeners.iter().map(|listener| socket2::SockRef::from(listener).local_addr()).collect();
        let ListenAddr::Tcp(addr) = bound.addr else { panic!("TCP was asked for") };
        assert_eq!(ports.len(), 4);
        assert!(ports.into_iter().all(|port| port.expect("bound").as_socket() == Some(addr)));
        assert!(matches!(bind(&ListenAddr::Tcp(addr), 1), Err(ListenError::Taken { .. })));
    }
}
