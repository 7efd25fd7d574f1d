//! What an application implements, and what it can reach from there.
//!
//! A [`Handler`] lives on one core and is never sent to another: plain fields, `Rc` and `RefCell` are fine. It is
//! called with a [`Conn`], through which it sends, closes and pauses, and which is also a [`Core`], through which
//! it reaches the other connections of its core and the other cores.
//!
//! ```
//! use corewire::handler::{Accept, Conn, Handler, Request, Upgrade};
//! use corewire::protocol::Message;
//!
//! struct Echo;
//!
//! impl Handler for Echo {
//!     type Session = ();
//!
//!     fn upgrade(&mut self, _: &mut Conn<'_>, _: &Request<'_>) -> Upgrade<()> {
//!         Upgrade::Accept(Accept::new(()))
//!     }
//!
//!     fn message(&mut self, conn: &mut Conn<'_>, _: &mut (), message: Message<'_>) {
//!         conn.reply(message).ok();
//!     }
//! }
//! ```
//!
//! # What to know
//!
//! - **Nothing may block.** While a method runs, every connection of its core waits. Work that takes time belongs to
//!   another thread, which answers through a [`ConnHandle`] or, before the WebSocket is open, a [`Deferred`].
//! - **Sending queues.** What a method sends is written when the core has no more to do, in one write per connection.
//!   A queue is bounded; [`Handler::overflow`] says what becomes of a peer that does not read.
//! - **Calls do not nest.** Sending to a connection or closing it calls no other method before this one has returned.
//! - **Cores share nothing.** What another core's handler must know goes there by [`Core::cast`].
//! - **A stream is a connection too.** [`Handler::stream`] answers a plain request with Server-Sent Events; then it is
//!   like a WebSocket that only listens.
//! - **Topics span all cores.** [`Conn::subscribe`] and [`Core::publish`]: who hears what, in one order for everybody.
//!
//! ```
//! # use corewire::{handler::Conn, protocol::{Message, MessageKind}};
//! fn ask_another_thread(conn: &Conn<'_>, message: Message<'_>) {
//!     let (handle, question) = (conn.handle(), message.into_bytes());
//!     std::thread::spawn(move || {
//!         let answer = question; // Something that takes time. A pool of threads would be better than one each.
//!         handle.send(MessageKind::Binary, answer).ok();
//!     });
//! }
//! ```
//!
//! Knows no shards and no sockets: what it reaches stands behind a trait that the shard implements.

mod outside;
mod remote;
mod request;
mod sessions;
mod topics;

use std::any::Any;
use std::ops::{Deref, DerefMut, Range};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub use crate::connection::{Body, Cause, Closed, SendError, Tick};
use crate::http::Response;
pub use crate::ids::ConnId;
use crate::protocol::close::CloseCode;
use crate::protocol::handshake::Refusal;
use crate::protocol::{Message, MessageKind};
use crate::topics::{Answer, Begun, Refused, Subject, Ticket, Topic};
pub use outside::{Nobody, Outside};
pub use remote::{Busy, ConnHandle, Deferred};
pub(crate) use remote::{Remote, Told};
pub use request::{Peer, Request};
pub use sessions::Sessions;
pub(crate) use sessions::Slots;
pub(crate) use topics::ReachTopics;
pub use topics::{CannotSubscribe, Delivery, TopicNews, Unanswered, Wire};

/// An application, one per core.
///
/// A panic in any of these methods closes the connection it was called for with 1011, or answers its request with
/// status 500, and harms no other; it is logged and counted.
pub trait Handler: 'static {
    /// What the application remembers of each connection; `()` costs nothing.
    type Session: 'static;

    /// A peer wants to open a WebSocket. Its request is a good handshake, and its origin is admitted already.
    ///
    /// Called on any path but `/healthz` and `/readyz`, which the server answers itself.
    fn upgrade(&mut self, conn: &mut Conn<'_>, request: &Request<'_>) -> Upgrade<Self::Session>;

    /// The answer to a request that [`Handler::upgrade`] or [`Handler::stream`] deferred is there ([`Deferred::answer`]).
    fn upgrade_deferred(
        &mut self,
        conn: &mut Conn<'_>,
        request: &Request<'_>,
        answer: Box<dyn Any + Send>,
    ) -> Upgrade<Self::Session> {
        let _ = (conn, request, answer);
        Upgrade::Refuse(Response::text(500, "This server deferred an answer that it does not understand.\n"))
    }

    /// The WebSocket or stream is open: the first moment at which something can be sent to it.
    fn open(&mut self, conn: &mut Conn<'_>, session: &mut Self::Session) {
        let _ = (conn, session);
    }

    /// A whole message has arrived: unmasked, put together, inflated and, if it is text, valid UTF-8.
    fn message(&mut self, conn: &mut Conn<'_>, session: &mut Self::Session, message: Message<'_>);

    /// A ping has arrived; it is answered already.
    fn ping(&mut self, conn: &mut Conn<'_>, session: &mut Self::Session, payload: &[u8]) {
        let _ = (conn, session, payload);
    }

    /// A pong has arrived.
    fn pong(&mut self, conn: &mut Conn<'_>, session: &mut Self::Session, payload: &[u8]) {
        let _ = (conn, session, payload);
    }

    /// The queue of a connection that could not be written for a while is empty again.
    fn writable(&mut self, conn: &mut Conn<'_>, session: &mut Self::Session) {
        let _ = (conn, session);
    }

    /// The WebSocket or stream is over. Told once for each that was open, also for one that a panic ended; not when the whole
    /// server is stopped at once.
    fn close(&mut self, core: &mut Core<'_>, id: ConnId, session: Self::Session, closed: &Closed) {
        let _ = (core, id, session, closed);
    }

    /// A GET request that asks for no WebSocket: `Some` if the answer is a stream of Server-Sent Events, or a refusal of
    /// one. By default it is not, and [`Handler::request`] answers.
    ///
    /// What a stream is sent goes out as it is, so it must be whole events; those of text and those of bytes are the
    /// same. All else is as with a WebSocket, but that no message ever comes. Pings are comments; the close has neither
    /// code nor words for the peer, and [`Core::broadcast`] is for WebSockets only.
    ///
    /// `Content-Type`, `Cache-Control` and what lets pages of other origins read the answer is written by the server.
    /// Whether the origin is admitted it looks up after this call. A `HEAD` is answered by the head, and never opens.
    fn stream(&mut self, conn: &mut Conn<'_>, request: &Request<'_>) -> Option<Upgrade<Self::Session>> {
        let _ = (conn, request);
        None
    }

    /// A request that asks for no WebSocket and gets no stream. Its connection ends with the response. By default the
    /// answer is 426.
    fn request(&mut self, core: &mut Core<'_>, request: &Request<'_>) -> Response {
        let _ = (core, request);
        Refusal::NotAnUpgrade.response()
    }

    /// Another core's handler said something to all ([`Core::cast`]). Downcast it to the type that was cast.
    fn cast(&mut self, core: &mut Core<'_>, message: &(dyn Any + Send + Sync)) {
        let _ = (core, message);
    }

    /// Another thread said something about this connection, which is open ([`ConnHandle::tell`]). Downcast it to the type
    /// that was told.
    fn told(&mut self, conn: &mut Conn<'_>, session: &mut Self::Session, message: &(dyn Any + Send + Sync)) {
        let _ = (conn, session, message);
    }

    /// As [`Handler::cast`], with what is remembered of this core's connections. By default that is not looked at.
    fn cast_with_sessions(
        &mut self,
        core: &mut Core<'_>,
        sessions: &mut Sessions<'_, Self::Session>,
        message: &(dyn Any + Send + Sync),
    ) {
        let _ = sessions;
        self.cast(core, message);
    }

    /// What connections of this wire are sent for a publication; `None` for nothing. By default its bare data.
    ///
    /// Asked at most once per publication and wire, and only if such a connection of this core hears the topic.
    fn encode(&mut self, wire: Wire, delivery: &Delivery<'_>) -> Option<(MessageKind, Bytes)> {
        let _ = wire;
        Some(delivery.bare())
    }

    /// Appends what goes before a publication in this stream alone, such as its id; by default nothing. Asked once for
    /// each publication and stream of this wire, whatever becomes of it. A WebSocket is never asked about: all of a wire
    /// get the same frame.
    fn preface(&mut self, wire: Wire, to: ConnId, delivery: &Delivery<'_>, out: &mut Vec<u8>) {
        let _ = (wire, to, delivery, out);
    }

    /// A subscription has begun. The publications in `begun` are sent right after this.
    fn subscribed(&mut self, conn: &mut Conn<'_>, session: &mut Self::Session, subject: &Subject, begun: &Begun<'_>) {
        let _ = (conn, session, subject, begun);
    }

    /// A subscription could not begin, and has ended.
    fn not_subscribed(&mut self, conn: &mut Conn<'_>, session: &mut Self::Session, topic: &Topic, refused: Refused) {
        let _ = (conn, session, topic, refused);
    }

    /// Something else than a publication that these subscribers of this core are to know of.
    fn topic_news(&mut self, core: &mut Core<'_>, topic: &Topic, news: TopicNews<'_>, to: &[ConnId]) {
        let _ = (core, topic, news, to);
    }

    /// The answer to [`Core::publish_asking`] or [`Core::read`] is there, or will never come.
    fn answered(&mut self, core: &mut Core<'_>, ticket: Ticket, answer: Result<Answer, Unanswered>) {
        let _ = (core, ticket, answer);
    }

    /// How often [`Handler::tick`] is called; `None` for never. Asked once. At least 32 ms.
    fn tick_interval(&self) -> Option<Duration> {
        None
    }

    /// Time has passed: [`Handler::tick_interval`], or more when the core was busy.
    fn tick(&mut self, core: &mut Core<'_>) {
        let _ = core;
    }

    /// What becomes of a connection whose peer reads too slowly. Asked once.
    fn overflow(&self) -> Overflow {
        Overflow::Disconnect(CloseCode::POLICY)
    }
}

/// What becomes of a message, and its connection, for which the send queue has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// The connection is closed with this code; the message is counted as dropped.
    Disconnect(CloseCode),
    /// The message is dropped and counted, the connection stays.
    DropMessage,
}

/// The answer to a request for a WebSocket or a stream.
pub enum Upgrade<S> {
    /// Open it.
    Accept(Accept<S>),
    /// Answer with this response instead.
    Refuse(Response),
    /// The answer comes later, through [`Conn::defer`], within the handshake time.
    Defer,
}

/// How to open a WebSocket or a stream.
pub struct Accept<S> {
    pub(crate) session: S,
    pub(crate) wire: Wire,
    pub(crate) subprotocol: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
}

impl<S> Accept<S> {
    /// Remember `session` for it.
    pub fn new(session: S) -> Self {
        Self { session, wire: Wire::default(), subprotocol: None, headers: Vec::new() }
    }

    /// What [`Handler::encode`] is asked for when it hears a publication.
    #[must_use]
    pub fn wire(mut self, wire: Wire) -> Self {
        self.wire = wire;
        self
    }

    /// Speak this subprotocol, one of those that the peer offered (RFC 6455 §4.2.2). A stream has none.
    #[must_use]
    pub fn subprotocol(mut self, name: impl Into<String>) -> Self {
        self.subprotocol = Some(name.into());
        self
    }

    /// One more header in the response.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

/// One core, as a handler sees it.
pub struct Core<'a> {
    pub(crate) reach: &'a mut dyn Reach,
}

/// The connection that a handler is called for, and its core.
pub struct Conn<'a> {
    core: Core<'a>,
    id: ConnId,
}

impl<'a> Deref for Conn<'a> {
    type Target = Core<'a>;

    fn deref(&self) -> &Core<'a> {
        &self.core
    }
}

impl<'a> DerefMut for Conn<'a> {
    fn deref_mut(&mut self) -> &mut Core<'a> {
        &mut self.core
    }
}

impl<'a> Conn<'a> {
    pub(crate) fn new(reach: &'a mut dyn Reach, id: ConnId) -> Self {
        Self { core: Core { reach }, id }
    }

    /// Its name, good for as long as the process runs.
    pub fn id(&self) -> ConnId {
        self.id
    }

    /// Queues a message for the peer.
    ///
    /// # Errors
    ///
    /// If the WebSocket is not open or its queue is full; the latter has the consequence of [`Handler::overflow`].
    pub fn send(&mut self, kind: MessageKind, body: Body<'_>) -> Result<(), SendError> {
        self.core.reach.send(self.id, kind, body)
    }

    /// Queues a text message.
    ///
    /// # Errors
    ///
    /// As [`Conn::send`].
    pub fn send_text(&mut self, text: &str) -> Result<(), SendError> {
        self.send(MessageKind::Text, Body::Borrowed(text.as_bytes()))
    }

    /// Queues a binary message.
    ///
    /// # Errors
    ///
    /// As [`Conn::send`].
    pub fn send_binary(&mut self, bytes: &[u8]) -> Result<(), SendError> {
        self.send(MessageKind::Binary, Body::Borrowed(bytes))
    }

    /// Sends a message back as it came. A large one is not copied.
    ///
    /// # Errors
    ///
    /// As [`Conn::send`].
    pub fn reply(&mut self, message: Message<'_>) -> Result<(), SendError> {
        let kind = message.kind();
        let body = match message.into_payload() {
            crate::protocol::Payload::Borrowed(bytes) => Body::Borrowed(bytes),
            crate::protocol::Payload::Owned(vec) => Body::Shared(Bytes::from(vec)),
            crate::protocol::Payload::Shared(bytes) => Body::Shared(bytes),
        };
        self.send(kind, body)
    }

    /// Queues a ping with up to 125 bytes.
    ///
    /// # Errors
    ///
    /// As [`Conn::send`].
    pub fn ping(&mut self, payload: &[u8]) -> Result<(), SendError> {
        self.core.reach.ping(self.id, payload)
    }

    /// Begins the closing handshake: what is queued still goes out first.
    pub fn close(&mut self, code: CloseCode, reason: &str) {
        self.core.reach.close(self.id, code, reason);
    }

    /// No more messages from this peer until [`Conn::resume`] or [`Core::resume_conn`].
    pub fn pause(&mut self) {
        self.core.reach.pause(self.id);
    }

    /// Messages again.
    pub fn resume(&mut self) {
        self.core.reach.resume(self.id);
    }

    /// Bytes that wait to be written to the peer.
    pub fn queued_bytes(&self) -> usize {
        self.core.reach.queued_bytes(self.id)
    }
}

impl Core<'_> {
    /// Which core this is, counted from zero.
    pub fn core_index(&self) -> usize {
        self.reach.core_index()
    }

    /// How many cores the server runs on.
    pub fn core_count(&self) -> usize {
        self.reach.core_count()
    }

    /// The moment at which the turn under way has begun, by the core's own clock, which never goes back.
    pub fn now(&self) -> Tick {
        self.reach.now()
    }

    /// The time of day, counted since the beginning of 1970 in UTC. It may jump when somebody sets the machine's clock.
    pub fn unix_time(&self) -> Duration {
        self.reach.unix_time()
    }

    /// Open WebSockets and streams on this core.
    pub fn connection_count(&self) -> usize {
        self.reach.connection_count()
    }

    /// Queues a message for any connection of this core.
    ///
    /// # Errors
    ///
    /// If it is not open (any more), not on this core, or its queue is full.
    pub fn send_to(&mut self, id: ConnId, kind: MessageKind, body: Body<'_>) -> Result<(), SendError> {
        self.reach.send(id, kind, body)
    }

    /// Queues one message for several connections of this core; it is encoded once. Answers how many got it.
    pub fn send_to_all(&mut self, ids: impl IntoIterator<Item = ConnId>, kind: MessageKind, payload: Bytes) -> usize {
        self.reach.send_to_all(&mut ids.into_iter(), kind, payload)
    }

    /// Closes any connection of this core.
    pub fn close_conn(&mut self, id: ConnId, code: CloseCode, reason: &str) {
        self.reach.close(id, code, reason);
    }

    /// Messages again from a connection that was paused.
    pub fn resume_conn(&mut self, id: ConnId) {
        self.reach.resume(id);
    }

    /// Queues a message for every open WebSocket of this core. Answers how many got it.
    pub fn broadcast(&mut self, kind: MessageKind, payload: Bytes) -> usize {
        self.reach.broadcast(kind, payload)
    }

    /// Queues a message for every open WebSocket on every core.
    ///
    /// # Errors
    ///
    /// [`Congested`] if some other core has fallen so far behind that nothing more is kept for it; those cores do
    /// not get the message, all others do, and it is counted.
    pub fn broadcast_all(&mut self, kind: MessageKind, payload: Bytes) -> Result<(), Congested> {
        self.reach.broadcast_all(kind, payload)
    }

    /// Hands a value to [`Handler::cast`] of every other core.
    ///
    /// # Errors
    ///
    /// As [`Core::broadcast_all`].
    pub fn cast(&mut self, message: Arc<dyn Any + Send + Sync>) -> Result<(), Congested> {
        self.reach.cast(message)
    }

    /// A way to reach a connection of this core later, from any thread.
    pub fn handle(&self, id: ConnId) -> ConnHandle {
        ConnHandle { id, remote: self.reach.remote() }
    }
}

/// Some other core cannot take any more now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ring to {cores} other core(s) is full; the message did not reach them")]
pub struct Congested {
    /// How many cores did not get it.
    pub cores: usize,
}

/// What a core does for its handler.
pub(crate) trait Reach: ReachTopics {
    fn send(&mut self, id: ConnId, kind: MessageKind, body: Body<'_>) -> Result<(), SendError>;
    fn send_to_all(&mut self, ids: &mut dyn Iterator<Item = ConnId>, kind: MessageKind, payload: Bytes) -> usize;
    fn ping(&mut self, id: ConnId, payload: &[u8]) -> Result<(), SendError>;
    fn close(&mut self, id: ConnId, code: CloseCode, reason: &str);
    fn pause(&mut self, id: ConnId);
    fn resume(&mut self, id: ConnId);
    fn queued_bytes(&self, id: ConnId) -> usize;
    fn broadcast(&mut self, kind: MessageKind, payload: Bytes) -> usize;
    fn broadcast_all(&mut self, kind: MessageKind, payload: Bytes) -> Result<(), Congested>;
    fn cast(&mut self, message: Arc<dyn Any + Send + Sync>) -> Result<(), Congested>;
    fn remote(&self) -> Arc<dyn Remote>;
    fn now(&self) -> Tick;
    fn unix_time(&self) -> Duration;
    fn core_index(&self) -> usize;
    fn core_count(&self) -> usize;
    fn connection_count(&self) -> usize;
    fn connections_in(&self, slots: Range<u32>) -> Vec<ConnId>;
    fn slot_count(&self) -> u32;
    fn is_open(&self, id: ConnId) -> bool;
}
