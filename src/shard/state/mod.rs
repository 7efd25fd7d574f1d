//! One core without its sockets: connections, timers, the handler, and what is to be done at the end of the turn.
//!
//! A driver tells it what was read, that time passed, and what came in the mailbox; it answers with a list of
//! connections to be looked at ([`State::pop_touched`]). It names no socket and no clock, so a test runs several
//! of them in one thread.

mod calm;
mod cors;
mod memory;
mod opening;
mod reach;
mod sending;
mod survey;
mod topics;
mod wall;

#[cfg(test)]
mod tests;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

pub use memory::DriverMemory;
pub use reach::{CoreState, ShardOptions};

use super::envelope::Envelope;
use super::paged::Paged;
use super::temperature::{ColdRead, Load, Thermostat};
use crate::connection::{Cause, Closed, Connection, Event, Input, NextStep, Tick};
use crate::handler::{Conn, Core, Handler, Peer, Sessions, Slots, Told};
#[cfg(feature = "tls")]
use crate::http::Response;
use crate::ids::ConnId;
use crate::mesh::{Mailbox, Outside, Post};
use crate::metrics::{Counter, ShardMetrics};
use crate::protocol::close::CloseCode;
use crate::protocol::{Message, MessageKind};
#[cfg(feature = "tls")]
use crate::tls::TlsError;

/// One core: its handler, and everything the handler can reach.
pub struct State<H: Handler> {
    handler: H,
    /// By index; one byte each if the handler remembers nothing.
    sessions: Paged<Option<H::Session>>,
    core: CoreState,
    due: Vec<u32>,
    tick_every: Option<Duration>,
    next_tick: Tick,
}

/// The peers of connections that are still opening: forgotten once they are open.
pub(super) type Peers = std::collections::HashMap<u32, Peer>;

impl<H: Handler> State<H> {
    /// A core without connections. `post` and `outside` are its ends of the mesh.
    pub fn new(handler: H, options: ShardOptions, post: Post<Envelope>, outside: Outside<Envelope>, now: Tick) -> Self {
        let overflow = handler.overflow();
        let tick_every = handler.tick_interval();
        Self {
            handler,
            sessions: Paged::default(),
            core: CoreState::new(options, post, outside, overflow, now),
            due: Vec::new(),
            tick_every,
            next_tick: tick_every.map_or(Tick::NEVER, |every| now.after(every)),
        }
    }

    /// The part that is the same for every handler.
    pub fn core(&mut self) -> &mut CoreState {
        &mut self.core
    }

    /// The part that is the same for every handler.
    pub fn core_ref(&self) -> &CoreState {
        &self.core
    }

    // ---- what happened -------------------------------------------------------------------------------------

    /// The clock stands at `now`. To be called before anything else in a turn.
    pub fn set_now(&mut self, now: Tick) {
        self.core.now = now;
    }

    /// What the clock on the wall says, since the beginning of 1970; to be told at the start, and again from time to time.
    pub fn set_unix_time(&mut self, unix_time: Duration) {
        let now = self.core.now;
        self.core.wall.set(now, unix_time);
    }

    /// A socket was accepted. `None`: no room, close it.
    pub fn handle_accept(&mut self, peer: Peer) -> Option<u32> {
        let index = self.core.insert(peer)?;
        if self.sessions.capacity() <= index as usize {
            self.sessions.grow(|| None);
        }
        Some(index)
    }

    /// A read brought `bytes`, in place.
    pub fn handle_input(&mut self, index: u32, bytes: &mut [u8]) {
        self.core.metrics.bytes_in.add(bytes.len() as u64);
        let Some(record) = self.core.slab.get_mut(index) else { return };
        if record.connection.is_secure() {
            self.handle_ciphertext(index, bytes);
        } else {
            self.feed(index, Input::new(bytes));
        }
        self.core.touch(index);
    }

    /// Where the next bytes of `index` belong, if a large message is under way and may be read now.
    pub fn message_buffer(&mut self, index: u32) -> Option<&mut [u8]> {
        let large = self.core.connection(index).is_some_and(Connection::receives_large);
        if !large {
            return None;
        }
        self.core.hold_if_nearly_full(index);
        let workspace = &mut self.core.workspace;
        self.core.slab.get_mut(index)?.connection.message_buffer(workspace)
    }

    /// A read brought `len` bytes to the beginning of [`State::message_buffer`].
    pub fn handle_input_in_place(&mut self, index: u32, len: usize) {
        self.core.metrics.bytes_in.add(len as u64);
        let (workspace, now) = (&mut self.core.workspace, self.core.now);
        let Some(record) = self.core.slab.get_mut(index) else { return };
        let event = record.connection.received_in_place(len, workspace, now);
        self.after(index, event);
    }

    #[cfg(feature = "tls")]
    fn handle_ciphertext(&mut self, index: u32, bytes: &mut [u8]) {
        let mut plaintext = std::mem::take(&mut self.core.plaintext);
        plaintext.clear();
        let Some(record) = self.core.slab.get_mut(index) else { return };
        let was_opening = record.connection.is_opening();
        let opened = record.connection.decrypt(bytes, &mut plaintext);
        if !plaintext.is_empty() {
            self.feed(index, Input::new(&mut plaintext));
        }
        match opened {
            Ok(opened) if opened.peer_closed => self.handle_eof(index),
            Ok(_) => {}
            Err(error) => {
                if was_opening {
                    self.core.metrics.refused_tls.add(1);
                }
                match self.core.peers.get(&index) {
                    Some(peer) => tracing::info!(%peer, %error, "TLS failed"),
                    // Addresses are forgotten once a connection is open.
                    None => tracing::info!(connection = %self.core.id(index), %error, "TLS failed"),
                }
                match error {
                    // Who begins after its time was up is not answered any more.
                    TlsError::PlainHttp if was_opening => self.answer_plain_http(index),
                    _ => self.handle_eof(index),
                }
            }
        }
        self.core.plaintext = plaintext;
    }

    /// Most often a person with `http://` or `ws://` in the address: an answer that can be read is worth more than none.
    #[cfg(feature = "tls")]
    fn answer_plain_http(&mut self, index: u32) {
        if let Some(record) = self.core.slab.get_mut(index) {
            record.connection.forsake_tls();
        }
        self.respond(index, &Response::text(400, "This port speaks TLS: use https:// or wss://.\n"));
    }

    #[cfg(not(feature = "tls"))]
    fn handle_ciphertext(&mut self, _: u32, _: &mut [u8]) {
        unreachable!("without the feature `tls` no connection is secure");
    }

    /// The peer sends no more.
    pub fn handle_eof(&mut self, index: u32) {
        let (workspace, now) = (&mut self.core.workspace, self.core.now);
        let event = self.core.slab.get_mut(index).and_then(|record| record.connection.handle_eof(workspace, now));
        self.after(index, event);
    }

    /// The socket is broken.
    pub fn handle_reset(&mut self, index: u32) {
        let (workspace, now) = (&mut self.core.workspace, self.core.now);
        let event = self.core.slab.get_mut(index).and_then(|record| record.connection.handle_reset(workspace, now));
        self.after(index, event);
    }

    /// The socket took everything that had been waiting.
    pub fn handle_writable(&mut self, index: u32) {
        let open = self.core.slab.get(index).is_some_and(|record| record.connection.is_open());
        if open {
            self.with_session(index, |handler, conn, session| handler.writable(conn, session));
        }
        self.core.touch(index);
    }

    /// Time has passed: deadlines, and the handler's tick.
    pub fn handle_timers(&mut self) {
        let now = self.core.now;
        let mut due = std::mem::take(&mut self.due);
        self.core.wheel.expire(&mut self.core.slab, now, &mut due);
        for index in due.drain(..) {
            let Some(record) = self.core.slab.get_mut(index) else { continue };
            let event = record.connection.handle_timeout(&mut self.core.workspace, now);
            self.after(index, event);
        }
        self.due = due;
        if now >= self.next_tick {
            self.next_tick = self.tick_every.map_or(Tick::NEVER, |every| now.after(every));
            self.guard(|handler, core| handler.tick(core));
        }
        if now >= self.core.topics_due {
            self.handle_topics_timeout();
        }
        let sessions_bytes = self.sessions.heap_bytes();
        self.core.survey_if_due(sessions_bytes);
    }

    /// When [`State::handle_timers`] is worth calling.
    pub fn next_timer(&self) -> Option<Tick> {
        let wheel = self.core.wheel.next_due();
        let tick = (self.next_tick != Tick::NEVER).then_some(self.next_tick);
        wheel.into_iter().chain(tick).chain(self.core.next_chore()).min()
    }

    /// Whether a wave of connections has passed and the core is calm: time to give memory back. To be asked after
    /// [`State::handle_timers`]. What the state itself holds is given back by this call; the rest is the driver's.
    pub fn has_calmed(&mut self) -> bool {
        let has_calmed = self.core.has_calmed();
        if has_calmed {
            self.core.shrink();
            self.due = Vec::new();
        }
        has_calmed
    }

    /// Empties the mailbox. Answers what only the driver can do.
    pub fn handle_mailbox(&mut self, mailbox: &mut Mailbox<Envelope>) -> Vec<Order> {
        mailbox.answer_bell();
        let mut orders = Vec::new();
        for taken in 0.. {
            if taken == ENVELOPES_PER_TURN {
                mailbox.ring_again();
                break;
            }
            let Some(envelope) = mailbox.take() else { break };
            self.core.metrics.mesh_received.add(1);
            match envelope {
                Envelope::Broadcast { kind, payload } => {
                    self.core.broadcast_here(kind, payload);
                }
                Envelope::Cast(message) => self.handle_cast(&*message),
                Envelope::Told(about) => self.handle_told(about.0),
                Envelope::Topics { from, message } => self.core.hear_of_topics(from, *message),
                Envelope::Configure(namespaces) => self.core.configure_topics(namespaces),
                #[cfg(feature = "tls")]
                Envelope::Tls(tls) => self.core.replace_tls(tls),
                Envelope::NotReady => self.core.ready = false,
                Envelope::Drain(within) => self.core.begin_drain(within),
                Envelope::CloseListeners => orders.push(Order::CloseListeners),
                Envelope::Stop => orders.push(Order::Stop),
            }
        }
        orders
    }

    fn handle_cast(&mut self, message: &(dyn Any + Send + Sync)) {
        let (handler, sessions, core) = (&mut self.handler, &mut self.sessions, &mut self.core);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            handler.cast_with_sessions(&mut Core { reach: core }, &mut Sessions::new(sessions), message);
        }));
        if outcome.is_err() {
            self.handle_panic(None);
        }
    }

    fn handle_told(&mut self, told: Told) {
        match told {
            Told::Send { to, kind, payload } => {
                // The sender could not know that the connection would be gone, and was told so.
                let _ = self.core.send_here(to, kind, crate::connection::Body::Shared(payload));
            }
            Told::Close { to, code, reason } => self.core.close_here(to, code, &reason),
            Told::Resume { to } => self.core.resume_here(to),
            Told::Handler { to, message } => {
                let is_open = self.core.named(to).is_some_and(|(_, connection)| connection.is_open());
                if is_open {
                    self.with_session(to.index, |handler, conn, session| handler.told(conn, session, &*message));
                }
            }
            Told::Answer { to, answer } => self.handle_answer(to, answer),
        }
    }

    /// To be called at the end of a turn, before the touched are looked at: does what is to be done about topics, moves
    /// envelopes on that waited, and lets those speak again that were held back meanwhile.
    pub fn catch_up(&mut self) {
        if self.core.topics_pending {
            self.run_topics();
        }
        self.core.catch_up();
    }

    // ---- what is to be done --------------------------------------------------------------------------------

    /// A connection that something happened to in this turn: it wants a write, a FIN, a close, another deadline.
    pub fn pop_touched(&mut self) -> Option<u32> {
        let index = self.core.touched.pop_front()?;
        if let Some(record) = self.core.slab.get_mut(index) {
            record.touched = false;
        }
        Some(index)
    }

    /// What the socket of `index` needs, its deadline set. `None`: there is no such connection.
    pub fn settle(&mut self, index: u32) -> Option<NextStep> {
        self.resume_waiting(index);
        if self.core.has_backlogs {
            self.core.refill(index);
        }
        let record = self.core.slab.get_mut(index)?;
        let step = record.connection.next_step();
        record.connection.transmitted(&mut self.core.workspace);
        let deadline = record.connection.deadline(&self.core.workspace);
        // Later deadlines are found out when the earlier one comes: a message does not touch the wheel.
        if deadline < record.timer.due() {
            self.core.wheel.arm(&mut self.core.slab, index, deadline);
        }
        if self.core.workspace.take_kept_large() {
            self.core.note_kept();
        }
        Some(step)
    }

    /// Takes a connection out whose socket is closed.
    pub fn release(&mut self, index: u32) {
        self.core.remove(index);
        if let Some(session) = self.sessions.get_mut(index) {
            *session = None;
        }
    }

    /// A cold read of `index` brought `len` bytes. Answers whether it should become hot.
    pub fn note_cold_read(&mut self, index: u32, len: usize, load: Load, thermostat: &Thermostat) -> bool {
        let now = self.core.now;
        let Some(record) = self.core.slab.get_mut(index) else { return false };
        let read = ColdRead::of(len);
        record.heat.cold_read(read, load, thermostat, now) && record.connection.wants_input(&self.core.workspace)
    }

    /// `index` has become cold again.
    pub fn note_demotion(&mut self, index: u32) {
        if let Some(record) = self.core.slab.get_mut(index) {
            record.heat.demoted();
        }
        self.core.note_given_up();
    }

    // ---- inside --------------------------------------------------------------------------------------------

    fn feed(&mut self, index: u32, mut input: Input<'_>) {
        self.core.hold_if_nearly_full(index);
        loop {
            let now = self.core.now;
            let Some(record) = self.core.slab.get_mut(index) else { return };
            let Some(event) = record.connection.poll_event(&mut input, &mut self.core.workspace, now) else { break };
            self.dispatch(index, event);
        }
        if let Some(record) = self.core.slab.get_mut(index) {
            record.connection.end_input(&mut input, &mut self.core.workspace);
        }
        // Here and not only at the end of the turn: one read may bring more publications than rings have room for.
        if self.core.topics_pending {
            self.run_topics();
        }
    }

    /// Gives a connection that reads again what a pause had left behind.
    fn resume_waiting(&mut self, index: u32) {
        while let Some(record) = self.core.slab.get_mut(index) {
            let Some(mut waiting) = record.connection.take_waiting() else { return };
            self.feed(index, Input::new(&mut waiting));
        }
    }

    fn after(&mut self, index: u32, event: Option<Event<'_>>) {
        if let Some(event) = event {
            self.dispatch(index, event);
        }
        self.core.touch(index);
    }

    fn dispatch(&mut self, index: u32, event: Event<'_>) {
        match event {
            Event::Head(head) => self.handle_head(index, &head),
            Event::BadHead(error) => {
                self.core.metrics.refused_handshake.add(1);
                self.core.leave_opening(index);
                tracing::debug!(%error, "a request head was refused");
            }
            Event::Message(message) => self.handle_message(index, message),
            Event::Ping(payload) => {
                self.core.metrics.pings_in.add(1);
                self.with_session(index, |handler, conn, session| handler.ping(conn, session, payload.bytes()));
            }
            Event::Pong(payload) => {
                self.core.metrics.pongs_in.add(1);
                self.with_session(index, |handler, conn, session| handler.pong(conn, session, payload.bytes()));
            }
            Event::Closed(closed) => self.handle_closed(index, &closed),
            Event::Abandoned(abandoned) => {
                if abandoned == crate::connection::Abandoned::TimedOut {
                    self.core.metrics.refused_timeout.add(1);
                }
                self.core.leave_opening(index);
            }
        }
    }

    fn handle_message(&mut self, index: u32, message: Message<'_>) {
        match message.kind() {
            MessageKind::Text => self.core.metrics.messages_in_text.add(1),
            MessageKind::Binary => self.core.metrics.messages_in_binary.add(1),
        }
        self.with_session(index, |handler, conn, session| handler.message(conn, session, message));
        self.core.hold_if_congested(index);
    }

    fn handle_closed(&mut self, index: u32, closed: &Closed) {
        self.core.metrics.connections_open.sub(1);
        self.core.metrics.connections_closing.add(1);
        count_close(&self.core.metrics, closed.code).add(1);
        if let Cause::Violation(violation) = closed.cause {
            tracing::debug!(%violation, code = closed.code.0, "a peer broke a rule");
        }
        let id = self.core.id(index);
        self.core.leave_topics(index);
        if let Some(session) = self.sessions[index].take() {
            self.guard(|handler, core| handler.close(core, id, session, closed));
        }
    }

    /// Calls the handler for a connection that has a session. It keeps it if the handler panics, to be told of its end.
    fn with_session(&mut self, index: u32, call: impl FnOnce(&mut H, &mut Conn<'_>, &mut H::Session)) {
        let Some(session) = self.sessions.get_mut(index).and_then(Option::as_mut) else { return };
        let id = self.core.id(index);
        let (handler, core) = (&mut self.handler, &mut self.core);
        let outcome = catch_unwind(AssertUnwindSafe(|| call(handler, &mut Conn::new(core, id), session)));
        if outcome.is_err() {
            self.handle_panic(Some(id));
        }
    }

    /// Calls the handler for something else than one open connection. `None`: it panicked.
    fn guard<T>(&mut self, call: impl FnOnce(&mut H, &mut Core<'_>) -> T) -> Option<T> {
        let (handler, core) = (&mut self.handler, &mut self.core);
        match catch_unwind(AssertUnwindSafe(|| call(handler, &mut Core { reach: core }))) {
            Ok(value) => Some(value),
            Err(_panic) => {
                self.handle_panic(None);
                None
            }
        }
    }

    /// The panic's own message went to the panic hook already.
    fn handle_panic(&mut self, about: Option<ConnId>) {
        self.core.metrics.handler_panics.add(1);
        match about {
            Some(id) => {
                tracing::error!(connection = %id, "the handler panicked; the connection is closed with 1011");
                self.core.close_here(id, CloseCode::INTERNAL_ERROR, "");
            }
            None => tracing::error!("the handler panicked outside of a connection"),
        }
    }
}

impl<S> Slots<S> for Paged<Option<S>> {
    fn slot_mut(&mut self, slot: u32) -> Option<&mut S> {
        self.get_mut(slot)?.as_mut()
    }
}

/// Envelopes taken before connections get their turn again: other cores could fill a ring as fast as it empties.
const ENVELOPES_PER_TURN: usize = 4096;

/// What only the driver can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Accept what waits, then stop listening.
    CloseListeners,
    /// End the core's loop.
    Stop,
}

fn count_close(metrics: &Arc<ShardMetrics>, code: CloseCode) -> &Counter {
    match code {
        CloseCode::NORMAL => &metrics.closes_normal,
        CloseCode::GOING_AWAY => &metrics.closes_going_away,
        CloseCode::PROTOCOL_ERROR => &metrics.closes_protocol,
        CloseCode::UNSUPPORTED => &metrics.closes_unsupported,
        CloseCode::NO_STATUS => &metrics.closes_no_status,
        CloseCode::ABNORMAL => &metrics.closes_abnormal,
        CloseCode::INVALID_PAYLOAD => &metrics.closes_invalid_payload,
        CloseCode::POLICY => &metrics.closes_policy,
        CloseCode::TOO_BIG => &metrics.closes_too_big,
        CloseCode::INTERNAL_ERROR => &metrics.closes_internal,
        CloseCode::TRY_AGAIN_LATER => &metrics.closes_try_later,
        _ => &metrics.closes_other,
    }
}
