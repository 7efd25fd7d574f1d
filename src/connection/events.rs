//! What a connection tells its driver.

#[cfg(doc)]
use super::{Connection, Limits};
use crate::http::HeadError;
use crate::protocol::close::CloseCode;
use crate::protocol::{Message, Payload, Violation};

/// What happened on a connection.
#[derive(Debug)]
pub enum Event<'i> {
    /// A request head is complete. Answer with [`Connection::accept`], [`Connection::stream`],
    /// [`Connection::respond`] or [`Connection::defer`].
    Head(Payload<'i>),
    /// The request head cannot become a good one. The refusal is queued already.
    BadHead(HeadError),
    /// A whole message.
    Message(Message<'i>),
    /// A ping; its pong is queued already (RFC 6455 §5.5.2).
    Ping(Payload<'i>),
    /// A pong, asked for or not (RFC 6455 §5.5.3).
    Pong(Payload<'i>),
    /// The WebSocket or stream is over; told exactly once for each that was open. Nothing can be sent any more.
    Closed(Closed),
    /// It ended before it was open, without a request that could be answered.
    Abandoned(Abandoned),
}

/// How a WebSocket or a stream ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// The code that ended it; 1005 if the peer gave none, 1006 if there was no Close at all (RFC 6455 §7.1.5). The peer
    /// of a stream can give none.
    pub code: CloseCode,
    /// The peer's words, if it was the peer.
    pub reason: String,
    /// Who, or what, ended it.
    pub cause: Cause,
}

/// Who, or what, ended a WebSocket or a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The peer sent Close, or left a stream.
    Peer,
    /// We sent Close, and the peer answered or was given up.
    Local,
    /// The peer broke a rule.
    Violation(Violation),
    /// The peer was silent longer than [`Limits::idle_timeout`], or took so long nothing of what waited for it.
    Idle,
    /// The transport ended without a Close.
    Transport,
}

/// How a connection ended that never was a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abandoned {
    /// The peer left.
    Left,
    /// The handshake took longer than [`Limits::handshake_timeout`].
    TimedOut,
}

/// Why nothing was queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The connection is not open, not any more or not yet.
    #[error("the connection is not open")]
    NotOpen,
    /// The message does not fit under [`Limits::queued_bytes_max`].
    #[error("the peer's send queue is full")]
    QueueFull,
}

/// What the socket needs now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextStep {
    /// Nothing but what it reads anyway.
    Wait,
    /// What [`Connection::poll_transmit`] gives must be written.
    Write,
    /// `shutdown(SHUT_WR)`, then [`Connection::fin_sent`].
    Fin,
    /// `close`: both sides are done, or the peer was given up.
    Close,
}
