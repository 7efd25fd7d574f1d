//! How other threads reach a connection.

use std::any::Any;
use std::sync::Arc;

use bytes::Bytes;

use super::Conn;
use crate::ids::ConnId;
use crate::protocol::MessageKind;
use crate::protocol::close::CloseCode;

/// Reaches one connection from any thread.
#[derive(Clone)]
pub struct ConnHandle {
    pub(super) id: ConnId,
    pub(super) remote: Arc<dyn Remote>,
}

impl ConnHandle {
    /// The connection's name.
    pub fn id(&self) -> ConnId {
        self.id
    }

    /// Queues a message. That it was queued for the core does not say that the connection still lives.
    ///
    /// # Errors
    ///
    /// [`Busy`] if the core's queue is full.
    pub fn send(&self, kind: MessageKind, payload: Bytes) -> Result<(), Busy> {
        self.remote.tell(Told::Send { to: self.id, kind, payload })
    }

    /// Begins the closing handshake.
    ///
    /// # Errors
    ///
    /// As [`ConnHandle::send`].
    pub fn close(&self, code: CloseCode, reason: impl Into<String>) -> Result<(), Busy> {
        self.remote.tell(Told::Close { to: self.id, code, reason: reason.into() })
    }

    /// Messages again after a pause.
    ///
    /// # Errors
    ///
    /// As [`ConnHandle::send`].
    pub fn resume(&self) -> Result<(), Busy> {
        self.remote.tell(Told::Resume { to: self.id })
    }

    /// Hands a value to [`Handler::told`](super::Handler::told) for this connection.
    ///
    /// # Errors
    ///
    /// As [`ConnHandle::send`].
    pub fn tell(&self, message: Arc<dyn Any + Send + Sync>) -> Result<(), Busy> {
        self.remote.tell(Told::Handler { to: self.id, message })
    }
}

impl Conn<'_> {
    /// A way to reach this connection later, from any thread.
    pub fn handle(&self) -> ConnHandle {
        self.core.handle(self.id)
    }

    /// In [`Handler::upgrade`](super::Handler::upgrade) or [`Handler::stream`](super::Handler::stream): a way to answer
    /// later, from any thread. Return [`Upgrade::Defer`](super::Upgrade::Defer) then.
    pub fn defer(&self) -> Deferred {
        Deferred { handle: Some(self.handle()) }
    }
}

/// The core's queue is full: try again later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the core's mailbox is full")]
pub struct Busy;

/// The right to answer one deferred upgrade, once. Dropped without an answer it refuses with 503.
pub struct Deferred {
    handle: Option<ConnHandle>,
}

impl Deferred {
    /// Hands `answer` to [`Handler::upgrade_deferred`](super::Handler::upgrade_deferred) on the connection's core.
    ///
    /// # Errors
    ///
    /// [`Busy`] if the core's queue is full; the peer is then refused when the handshake time is over.
    pub fn answer(mut self, answer: impl Any + Send) -> Result<(), Busy> {
        self.tell(Some(Box::new(answer)))
    }

    fn tell(&mut self, answer: Option<Box<dyn Any + Send>>) -> Result<(), Busy> {
        match self.handle.take() {
            Some(handle) => handle.remote.tell(Told::Answer { to: handle.id, answer }),
            None => Ok(()),
        }
    }
}

impl Drop for Deferred {
    fn drop(&mut self) {
        // A full mailbox leaves the peer to the handshake deadline, which refuses it too.
        let _ = self.tell(None);
    }
}

/// What other threads tell a core.
pub(crate) enum Told {
    Send { to: ConnId, kind: MessageKind, payload: Bytes },
    Close { to: ConnId, code: CloseCode, reason: String },
    Resume { to: ConnId },
    Handler { to: ConnId, message: Arc<dyn Any + Send + Sync> },
    Answer { to: ConnId, answer: Option<Box<dyn Any + Send>> },
}

/// A core's mailbox, for other threads.
pub(crate) trait Remote: Send + Sync {
    fn tell(&self, told: Told) -> Result<(), Busy>;
}
