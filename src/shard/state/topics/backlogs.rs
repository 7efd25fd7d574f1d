//! From publications to the queues of connections, and what becomes of them where these are full.

use bytes::Bytes;

use super::super::reach::CoreState;
use super::Waiting;
use crate::connection::{Body, Broadcast, SendError};
use crate::handler::{Overflow, Wire};
use crate::ids::ConnId;
use crate::protocol::MessageKind;
use crate::protocol::close::CloseCode;
use crate::topics::{Backlog, Keep, Overflow as Full, Tally};

/// A publication as connections of one wire get it: one frame for all of them.
pub(super) struct Encoded {
    kind: MessageKind,
    payload: Bytes,
    frame: Broadcast,
}

/// One publication for all wires that it was asked for. They are few, mostly one.
#[derive(Default)]
pub(super) struct Encodings(Vec<(Wire, Option<Encoded>)>);

impl Encodings {
    /// As connections of this wire get it; `None` if they do not.
    pub(super) fn get(
        &mut self,
        wire: Wire,
        encode: impl FnOnce() -> Option<(MessageKind, Bytes)>,
    ) -> Option<&mut Encoded> {
        let place = self.0.iter().position(|(known, _)| *known == wire).unwrap_or_else(|| {
            self.0.push((wire, encode().map(|(kind, payload)| Encoded::new(kind, payload))));
            self.0.len() - 1
        });
        self.0[place].1.as_mut()
    }

    /// Bytes of payload.
    pub(super) fn bytes(&self) -> usize {
        self.0.iter().filter_map(|(_, encoded)| encoded.as_ref()).map(|encoded| encoded.payload.len()).sum()
    }
}

impl Encoded {
    pub(super) fn new(kind: MessageKind, payload: Bytes) -> Self {
        Self { kind, frame: Broadcast::new(kind, payload.clone()), payload }
    }
}

impl CoreState {
    /// Queues a publication, or has it wait, or closes the connection, as its namespace wants.
    /// `preface` goes before it, to a stream.
    pub(super) fn queue_publication(
        &mut self,
        index: u32,
        encoded: &mut Encoded,
        preface: &[u8],
        keep: Keep<'_>,
    ) -> Tally {
        let (queue_max, has_backlog) = (self.queue_max(), self.has_backlog(index));
        let Some(record) = self.slab.get_mut(index) else { return Tally::default() };
        if !record.connection.is_open() {
            return Tally::default();
        }
        let is_slow = match keep {
            Keep::Firm => false,
            Keep::Droppable | Keep::Latest(..) => record.connection.queued_bytes() >= queue_max,
        };
        if is_slow || has_backlog {
            return self.wait(index, encoded, preface, keep);
        }
        let sent = match preface {
            [] => record.connection.send_broadcast(&mut encoded.frame, &mut self.workspace),
            _ => record.connection.send_prefaced(preface, encoded.payload.clone(), &mut self.workspace),
        };
        match (sent, keep) {
            (Ok(()), _) => {
                self.metrics.messages_out.add(1);
                self.touch(index);
                Tally { delivered: 1, ..Tally::default() }
            }
            (Err(SendError::NotOpen), _) => Tally::default(),
            (Err(SendError::QueueFull), Keep::Firm) => self.overflow(index),
            (Err(SendError::QueueFull), Keep::Droppable | Keep::Latest(..)) => self.wait(index, encoded, preface, keep),
        }
    }

    /// Moves what waits for a connection into its queue, as far as there is room. To be called whenever it is settled.
    pub(in super::super) fn refill(&mut self, index: u32) {
        let queue_max = self.queue_max();
        let Some(backlog) = self.topics.backlogs.get_mut(&index) else { return };
        let Some(record) = self.slab.get_mut(index) else { return };
        while record.connection.is_open() && record.connection.queued_bytes() < queue_max {
            let Some(Waiting { kind, payload }) = backlog.pop() else { break };
            match record.connection.send(kind, Body::Shared(payload), &mut self.workspace) {
                Ok(()) => self.metrics.messages_out.add(1),
                // Larger than all that may ever wait: it could be sent at no time.
                Err(SendError::QueueFull) => self.metrics.queue_drops.add(1),
                Err(SendError::NotOpen) => {}
            }
        }
        if backlog.is_empty() || !record.connection.is_open() {
            self.forget_backlog(index);
        }
    }

    pub(super) fn forget_backlog(&mut self, index: u32) {
        self.topics.backlogs.remove(&index);
        self.has_backlogs = !self.topics.backlogs.is_empty();
    }

    /// Whether something waits for the connection: what comes later must wait as well.
    pub(in super::super) fn has_backlog(&self, index: u32) -> bool {
        self.has_backlogs && self.topics.backlogs.contains_key(&index)
    }

    /// Has a message that is no publication wait behind those that do.
    ///
    /// # Errors
    ///
    /// If the connection is not open, or there is no room; then what the handler wants becomes of it.
    pub(in super::super) fn send_behind(
        &mut self,
        id: ConnId,
        kind: MessageKind,
        payload: Bytes,
    ) -> Result<(), SendError> {
        if !self.named(id).is_some_and(|(_, connection)| connection.is_open()) {
            return Err(SendError::NotOpen);
        }
        let len = payload.len();
        match self.push_waiting(id.index, Waiting { kind, payload }, Keep::Firm) {
            Ok(_) => Ok(()),
            Err(Full) => self.after_send(id.index, len, Err(SendError::QueueFull)),
        }
    }

    /// Queues what waits for a connection that is about to be closed, as far as there is room: its Close comes last.
    pub(in super::super) fn flush_backlog(&mut self, index: u32) {
        let Some(mut backlog) = self.topics.backlogs.remove(&index) else { return };
        self.has_backlogs = !self.topics.backlogs.is_empty();
        let Some(record) = self.slab.get_mut(index) else { return };
        while let Some(Waiting { kind, payload }) = backlog.pop() {
            match record.connection.send(kind, Body::Shared(payload), &mut self.workspace) {
                Ok(()) => self.metrics.messages_out.add(1),
                // Nothing behind it either: what a peer hears has no holes.
                Err(SendError::QueueFull) => return self.metrics.queue_drops.add(1 + backlog.len() as u64),
                Err(SendError::NotOpen) => return,
            }
        }
    }

    fn wait(&mut self, index: u32, encoded: &Encoded, preface: &[u8], keep: Keep<'_>) -> Tally {
        let payload = match preface {
            [] => encoded.payload.clone(),
            _ => [preface, &encoded.payload].concat().into(),
        };
        let waiting = Waiting { kind: encoded.kind, payload };
        self.push_waiting(index, waiting, keep).unwrap_or_else(|Full| self.overflow(index))
    }

    fn push_waiting(&mut self, index: u32, waiting: Waiting, keep: Keep<'_>) -> Result<Tally, Full> {
        let bytes_max = self.workspace.limits().queued_bytes_max - self.queue_max();
        let backlog = self.topics.backlogs.entry(index).or_insert_with(|| Backlog::new(bytes_max));
        self.has_backlogs = true;
        let len = waiting.payload.len();
        let tally = backlog.push(waiting, len, keep)?;
        self.metrics.queue_drops.add(tally.dropped);
        self.metrics.publications_conflated.add(tally.conflated);
        self.touch(index);
        Ok(tally)
    }

    /// A publication that must not be lost has no room: the peer comes back and recovers it.
    fn overflow(&mut self, index: u32) -> Tally {
        self.metrics.queue_drops.add(1);
        let code = match self.overflow {
            Overflow::Disconnect(code) => code,
            Overflow::DropMessage => CloseCode::POLICY,
        };
        let id = self.id(index);
        tracing::debug!(connection = %id, "a subscriber reads too slowly");
        self.close_here(id, code, "slow consumer");
        Tally { dropped: 1, ..Tally::default() }
    }

    /// Bytes in a connection's queue from which on publications wait outside, where they may be replaced or dropped.
    fn queue_max(&self) -> usize {
        QUEUE_BYTES.min(self.workspace.limits().queued_bytes_max / 2)
    }
}

/// Enough to keep a socket busy between two turns.
const QUEUE_BYTES: usize = 64 << 10;
