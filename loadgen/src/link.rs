//! The connections of one worker, and what a scenario may do with them. Knows no runtime.

use std::os::fd::{BorrowedFd, RawFd};
use std::task::Waker;

use corewire::connection::{Body, Connection, NextStep, Tick, Workspace};
use corewire::protocol::close::CloseCode;
use corewire::protocol::frame::{self, FrameHeader, HEADER_LEN_MAX};
use corewire::protocol::{MessageKind, Opcode, mask};

use crate::clock::Clock;
use crate::schedule::Schedule;
use crate::tally::Tally;
use crate::transport::TlsEnds;

/// A place for one connection after another.
#[derive(Default)]
pub(crate) struct Link {
    pub(crate) state: LinkState,
    /// Which connection this is in its place: tasks of an earlier one must not touch a later.
    pub(crate) generation: u32,
    pub(crate) connection: Option<Connection>,
    pub(crate) tls: Option<Box<TlsEnds>>,
    /// Whether messages go through the connection, which compresses them.
    pub(crate) compressed: bool,
    /// Messages to be compressed once the connection is back in its place.
    waiting: Vec<(MessageKind, Vec<u8>)>,
    /// Frames that wait for the writer.
    pub(crate) outgoing: Vec<u8>,
    /// Records that wait for the writer, in front of what is in `outgoing`.
    pub(crate) sealed: Vec<u8>,
    /// The writer's, once it has waited.
    pub(crate) writer: Option<Waker>,
    /// The reader's, while it is told not to read.
    pub(crate) reader: Option<Waker>,
    pub(crate) reading: Reading,
    /// The opener's, and the moment at which it gives up.
    pub(crate) opener: Option<(Waker, u64)>,
    /// Open for as long as the reader lives, which is while the state is not `Vacant`.
    fd: RawFd,
}

/// How far a link is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LinkState {
    /// There is no connection.
    #[default]
    Vacant,
    /// One is being opened.
    Opening,
    /// Messages may flow.
    Open,
    /// We have asked for the end of it.
    Closing,
    /// Nothing is written any more; the reader waits for the end.
    Finished,
}

/// Whether a link is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Reading {
    /// As fast as it comes.
    #[default]
    Flowing,
    /// Not at all.
    Stopped,
}

/// All that a scenario has at hand.
pub(crate) struct Desk {
    pub(crate) clock: Clock,
    /// The moment that is being handled.
    pub(crate) now_ns: u64,
    pub(crate) tally: Tally,
    pub(crate) links: Vec<Link>,
    pub(crate) workspace: Workspace,
    /// Links whose reader lives.
    pub(crate) live: usize,
    /// Links to be opened, and what was intended as the moment for it.
    pub(crate) wanted: Vec<u32>,
    /// Grows whenever there was something to do.
    pub(crate) activity: u64,
    /// When messages are due, if there is a rate; known from the start on.
    pub(crate) schedule: Option<Schedule>,
}

impl Desk {
    pub(crate) fn new(clock: Clock, link_count: usize, workspace: Workspace) -> Self {
        let links = std::iter::repeat_with(Link::default).take(link_count).collect();
        Self {
            clock,
            now_ns: 0,
            tally: Tally::new(),
            links,
            workspace,
            live: 0,
            wanted: Vec::new(),
            activity: 0,
            schedule: None,
        }
    }

    /// Queues a message of `len` bytes that `write` appends.
    pub(crate) fn send(&mut self, slot: usize, kind: MessageKind, len: usize, write: impl FnOnce(&mut Vec<u8>)) {
        let link = &mut self.links[slot];
        if link.state != LinkState::Open {
            return;
        }
        self.activity += 1;
        if self.tally.window.contains(self.now_ns) {
            self.tally.wire.sent_payload_bytes += len as u64;
        }
        if link.compressed {
            let mut payload = Vec::with_capacity(len);
            write(&mut payload);
            return link.send_compressed(kind, payload, &mut self.workspace);
        }
        let opcode = match kind {
            MessageKind::Text => Opcode::Text,
            MessageKind::Binary => Opcode::Binary,
        };
        let key = self.workspace.random.mask_key();
        let header = FrameHeader { fin: true, rsv1: false, opcode, mask: Some(key), payload_len: len as u64 };
        let mut bytes = [0; HEADER_LEN_MAX];
        let header_len = frame::encode_header(&header, &mut bytes);
        link.outgoing.extend_from_slice(&bytes[..header_len]);
        let start = link.outgoing.len();
        write(&mut link.outgoing);
        debug_assert_eq!(link.outgoing.len() - start, len, "the header promised as much");
        mask::apply(&mut link.outgoing[start..], key);
        link.wake_writer();
    }

    /// Asks for a link to be opened.
    pub(crate) fn open(&mut self, slot: usize) {
        if self.links[slot].state == LinkState::Vacant {
            self.links[slot].state = LinkState::Opening;
            self.wanted.push(slot as u32);
        }
    }

    /// Sends a ping.
    pub(crate) fn ping(&mut self, slot: usize, payload: &[u8]) {
        let Self { links, workspace, .. } = self;
        let link = &mut links[slot];
        if link.state == LinkState::Open
            && let Some(connection) = &mut link.connection
            && connection.ping(payload, workspace).is_ok()
        {
            link.take_transmit(workspace);
        }
    }

    /// Begins the closing handshake.
    pub(crate) fn close(&mut self, slot: usize) {
        let Self { links, workspace, .. } = self;
        let link = &mut links[slot];
        if link.state != LinkState::Open {
            return;
        }
        link.state = LinkState::Closing;
        link.read(Reading::Flowing);
        if let Some(connection) = &mut link.connection {
            connection.close(CloseCode::NORMAL, "", workspace, Tick(0));
            link.take_transmit(workspace);
        }
        // Otherwise its events are being told: `Link::restore` says Close then.
    }

    /// Ends the sending side without a word.
    pub(crate) fn finish(&mut self, slot: usize) {
        let link = &mut self.links[slot];
        match link.state {
            LinkState::Open | LinkState::Closing => {
                link.state = LinkState::Finished;
                link.read(Reading::Flowing);
                link.wake_writer();
            }
            LinkState::Vacant | LinkState::Opening | LinkState::Finished => {}
        }
    }

    /// Cuts a connection off, both ways.
    pub(crate) fn cut(&mut self, slot: usize) {
        self.finish(slot);
        self.links[slot].shutdown();
    }

    /// How many links are open.
    pub(crate) fn open_count(&self) -> usize {
        self.links.iter().filter(|link| link.state == LinkState::Open).count()
    }

    pub(crate) fn is_open(&self, slot: usize) -> bool {
        self.links[slot].state == LinkState::Open
    }
}

impl Link {
    /// A connection takes this place.
    pub(crate) fn occupy(&mut self, connection: Connection, tls: Option<Box<TlsEnds>>, compressed: bool, fd: RawFd) {
        let generation = self.generation.wrapping_add(1);
        let (outgoing, sealed) = (std::mem::take(&mut self.outgoing), std::mem::take(&mut self.sealed));
        *self = Self {
            state: LinkState::Open,
            generation,
            connection: Some(connection),
            tls,
            compressed,
            outgoing,
            sealed,
            fd,
            ..Self::default()
        };
        self.outgoing.clear();
        self.sealed.clear();
    }

    /// The reader has ended. The writer ends too.
    pub(crate) fn vacate(&mut self) {
        self.state = LinkState::Vacant;
        self.connection = None;
        self.tls = None;
        self.wake_writer();
    }

    /// Puts the connection back after its events were told.
    pub(crate) fn restore(&mut self, mut connection: Connection, workspace: &mut Workspace) {
        if self.state == LinkState::Closing && connection.is_open() {
            connection.close(CloseCode::NORMAL, "", workspace, Tick(0));
        }
        self.connection = Some(connection);
        self.take_transmit(workspace);
        for (kind, payload) in std::mem::take(&mut self.waiting) {
            self.send_compressed(kind, payload, workspace);
        }
    }

    fn send_compressed(&mut self, kind: MessageKind, payload: Vec<u8>, workspace: &mut Workspace) {
        match &mut self.connection {
            // Its events are being told.
            None => self.waiting.push((kind, payload)),
            Some(connection) => {
                // One that is closing takes nothing more.
                if connection.send(kind, Body::Borrowed(&payload), workspace).is_ok() {
                    self.take_transmit(workspace);
                }
            }
        }
    }

    /// Moves what the connection itself has to say (pong, close) behind what waits for the writer.
    pub(crate) fn take_transmit(&mut self, workspace: &mut Workspace) {
        let Some(connection) = &mut self.connection else { return };
        let mut moved = false;
        while let Some(outbox) = connection.poll_transmit() {
            let len = outbox.front().len();
            self.outgoing.extend_from_slice(outbox.front());
            outbox.advance(len);
            moved = true;
        }
        if moved {
            connection.transmitted(workspace);
            self.wake_writer();
        }
    }

    /// Whether the connection has come to its end and waits for ours.
    pub(crate) fn wants_fin(&mut self) -> bool {
        self.connection.as_mut().is_some_and(|connection| connection.next_step() == NextStep::Fin)
    }

    /// Whether, and from when on, the reader reads.
    pub(crate) fn read(&mut self, reading: Reading) {
        self.reading = reading;
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    pub(crate) fn wake_writer(&mut self) {
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
    }

    fn shutdown(&self) {
        if self.state == LinkState::Vacant || self.state == LinkState::Opening {
            return;
        }
        // SAFETY: the state says that the reader lives, and the reader's half of the stream keeps the descriptor
        // open: it is released only after `vacate`, on this same thread.
        let socket = unsafe { BorrowedFd::borrow_raw(self.fd) };
        // It may be closed by the peer already; then there is nothing to cut.
        let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
    }
}
