//! A floor: a TCP echo over epoll that does no WebSocket at all. One thread, and neither broadcast nor TLS.

use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;

use peer_options::Options;
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

fn main() -> io::Result<()> {
    let port = Options::parse_for_floor().port;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    listener.set_nonblocking(true)?;
    let set = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&set, &listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
    let mut peers: Vec<Option<Peer>> = Vec::new();
    let mut free = Vec::new();
    let mut events = Vec::with_capacity(1024);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        events.clear();
        epoll::wait(&set, rustix::buffer::spare_capacity(&mut events), None)?;
        for event in &events {
            let data = event.data;
            if data.u64() == LISTENER {
                accept_all(&listener, &set, &mut peers, &mut free)?;
                continue;
            }
            let index = data.u64() as usize;
            let Some(peer) = &mut peers[index] else { continue };
            if peer.serve(&mut buffer, &set, data).is_err() {
                peers[index] = None;
                free.push(index);
            }
        }
    }
}

struct Peer {
    stream: TcpStream,
    /// What the socket did not take.
    unsent: Vec<u8>,
}

impl Peer {
    /// Echoes what is there. An error or the end of input ends the connection.
    fn serve(&mut self, buffer: &mut [u8], set: impl AsFd, data: epoll::EventData) -> io::Result<()> {
        if !self.unsent.is_empty() {
            let sent = some(rustix::net::send(&self.stream, &self.unsent, FLAGS))?;
            self.unsent.drain(..sent);
            if !self.unsent.is_empty() {
                return Ok(());
            }
            epoll::modify(set, &self.stream, data, epoll::EventFlags::IN)?;
            return Ok(());
        }
        let len = match rustix::net::recv(&self.stream, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((0, _)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok((len, _)) => len,
            Err(Errno::AGAIN) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let sent = some(rustix::net::send(&self.stream, &buffer[..len], FLAGS))?;
        if sent < len {
            self.unsent.extend_from_slice(&buffer[sent..len]);
            epoll::modify(set, &self.stream, data, epoll::EventFlags::OUT)?;
        }
        Ok(())
    }
}

fn some(sent: Result<usize, Errno>) -> io::Result<usize> {
    match sent {
        Err(Errno::AGAIN) => Ok(0),
        sent => Ok(sent?),
    }
}

fn accept_all(
    listener: &TcpListener,
    set: impl AsFd,
    peers: &mut Vec<Option<Peer>>,
    free: &mut Vec<usize>,
) -> io::Result<()> {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        stream.set_nodelay(true)?;
        let index = free.pop().unwrap_or_else(|| {
            peers.push(None);
            peers.len() - 1
        });
        epoll::add(&set, &stream, epoll::EventData::new_u64(index as u64), epoll::EventFlags::IN)?;
        peers[index] = Some(Peer { stream, unsent: Vec::new() });
    }
}

const LISTENER: u64 = u64::MAX;
const READ_BYTES: usize = 256 << 10;
const FLAGS: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);
