//! One WebSocket peer as a state machine: bytes and time in, events and bytes out.
//!
//! Knows no socket, no clock and no other connection. A driver owns the socket and the clock and calls:
//!
//! 1. `Connection::decrypt` with what a read brought, if the connection [is secure](Connection::is_secure);
//! 2. [`Connection::poll_event`] until it has nothing more to tell, then [`Connection::end_input`];
//! 3. [`Connection::poll_transmit`] and [`Connection::transmitted`] while there is something to write, then
//!    [`Connection::next_step`] to learn what the socket needs now;
//! 4. [`Connection::handle_timeout`] at [`Connection::deadline`].
//!
//! ```text
//! accepted ─► Opening ──accept──► Open ──Close, violation, silence──► Ending ─► over
//!                └──────────────refuse, plain HTTP───────────────────────┘
//! ```

mod extra;
mod input;
mod limits;
mod opening;
mod outbox;
mod random;
mod receiving;
#[cfg(feature = "tls")]
mod secure;
mod sending;
mod tick;
mod websocket;
mod workspace;

#[cfg(test)]
mod tests;

pub use input::Input;
pub use limits::{DeflateMode, Limits};
pub use outbox::Outbox;
pub use random::Random;
pub use sending::{Body, Broadcast};
pub use tick::{Span, TICK_MILLIS, Tick};
pub use workspace::Workspace;

use crate::http::{HeadError, Response};
use crate::protocol::Opcode;
use crate::protocol::Violation;
use crate::protocol::close::{self, CloseCode};
use crate::protocol::deflate::Agreement;
use crate::protocol::frame::{CONTROL_LEN_MAX, Role};
use crate::protocol::{Message, MessageKind, Payload};
use extra::Extra;
use opening::Opening;
use receiving::Received;
#[cfg(feature = "tls")]
pub use secure::Opened;
#[cfg(feature = "tls")]
use secure::Secure;
use websocket::{Due, Reading, WebSocket};

/// One peer, from accept to the end.
///
/// Small on purpose: an idle one has neither box, and there may be a million of them.
pub struct Connection {
    stage: Stage,
    /// Exists while something waits to be sent.
    outbox: Option<Box<Outbox>>,
    /// Exists while something beyond the stage must be remembered.
    extra: Option<Box<Extra>>,
}

#[derive(Debug)]
enum Stage {
    /// TLS and the opening handshake.
    Opening(Opening),
    /// A WebSocket.
    Open(WebSocket),
    /// Nothing more is accepted from either side: the queue is written, then FIN, then input is dropped until the
    /// peer's FIN, so that a reset never destroys what is still on its way (RFC 6455 §7.1.1).
    Ending(Ending),
}

#[derive(Clone, Copy, Debug)]
struct Ending {
    give_up_at: Tick,
    fin_sent: bool,
    fin_heard: bool,
}

const _: () = {
    // Two boxes and 24 bytes of state: with its timer node and generation a connection fits a cache line.
    assert!(size_of::<Connection>() <= 40);
};

/// What happened on a connection.
#[derive(Debug)]
pub enum Event<'i> {
    /// A request head is complete. Answer with [`Connection::accept`], [`Connection::respond`] or
    /// [`Connection::defer`].
    Head(Payload<'i>),
    /// The request head cannot become a good one. The refusal is queued already.
    BadHead(HeadError),
    /// A whole message.
    Message(Message<'i>),
    /// A ping; its pong is queued already (RFC 6455 §5.5.2).
    Ping(Payload<'i>),
    /// A pong, asked for or not (RFC 6455 §5.5.3).
    Pong(Payload<'i>),
    /// The WebSocket is over; told exactly once for each that was open. Nothing can be sent any more.
    Closed(Closed),
    /// It ended before it was open, without a request that could be answered.
    Abandoned(Abandoned),
}

/// How a WebSocket ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// The code that ended it; 1005 if the peer gave none, 1006 if there was no Close at all (RFC 6455 §7.1.5).
    pub code: CloseCode,
    /// The peer's words, if it was the peer.
    pub reason: String,
    /// Who, or what, ended it.
    pub cause: Cause,
}

/// Who, or what, ended a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The peer sent Close.
    Peer,
    /// We sent Close, and the peer answered or was given up.
    Local,
    /// The peer broke a rule.
    Violation(Violation),
    /// The peer was silent longer than [`Limits::idle_timeout`].
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
    /// The WebSocket is not open, not any more or not yet.
    #[error("the WebSocket is not open")]
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

impl Connection {
    /// A socket was accepted; its peer now owes a request head.
    pub fn accepted(workspace: &Workspace, now: Tick) -> Self {
        let give_up_at = now.plus(workspace.spans.handshake);
        Self {
            stage: Stage::Opening(Opening { give_up_at, phase: opening::Phase::Reading }),
            outbox: None,
            extra: None,
        }
    }

    /// A socket was accepted on which the peer speaks TLS first.
    #[cfg(feature = "tls")]
    pub fn accepted_secure(session: crate::tls::Session, workspace: &mut Workspace, now: Tick) -> Self {
        let mut connection = Self::accepted(workspace, now);
        extra::ensure(&mut connection.extra, workspace).secure = Some(Box::new(Secure::new(session)));
        connection
    }

    /// A WebSocket whose opening handshake is done, in either role. For clients and tests.
    pub fn established(role: Role, deflate: Option<Agreement>, workspace: &mut Workspace, now: Tick) -> Self {
        let websocket = WebSocket::new(role, deflate, &workspace.limits, &mut workspace.random, now);
        Self { stage: Stage::Open(websocket), outbox: None, extra: None }
    }

    // ---- what happened -------------------------------------------------------------------------------------

    /// The next thing that `input` tells. Consumes all of it before it answers `None`, unless reading is paused or
    /// older input [waits](Connection::take_waiting).
    #[inline]
    pub fn poll_event<'i>(&mut self, input: &mut Input<'i>, workspace: &mut Workspace, now: Tick) -> Option<Event<'i>> {
        // Nothing is left and nothing is kept: so end most reads.
        if input.is_empty() && self.extra.is_none() { None } else { self.poll_stage(input, workspace, now) }
    }

    fn poll_stage<'i>(&mut self, input: &mut Input<'i>, workspace: &mut Workspace, now: Tick) -> Option<Event<'i>> {
        match &mut self.stage {
            Stage::Opening(opening) => match opening.poll(&mut self.extra, input, workspace)? {
                Ok(head) => Some(Event::Head(head)),
                Err(error) => {
                    self.respond(&Response::text(error.status(), format!("{error}\n")), workspace, now);
                    Some(Event::BadHead(error))
                }
            },
            Stage::Open(_) => self.poll_frames(input, workspace, now),
            Stage::Ending(_) => {
                input.take_all();
                None
            }
        }
    }

    fn poll_frames<'i>(&mut self, input: &mut Input<'i>, workspace: &mut Workspace, now: Tick) -> Option<Event<'i>> {
        loop {
            let Stage::Open(websocket) = &mut self.stage else {
                input.take_all();
                return None;
            };
            if !websocket.reads() || self.extra.as_ref().is_some_and(|extra| !extra.waiting.is_empty()) {
                return None;
            }
            if input.is_empty() {
                return self.late_eof(workspace, now);
            }
            websocket.heard(now);
            let open = websocket.phase == websocket::Phase::Open;
            match receiving::poll(&mut self.extra, websocket.terms, input, workspace) {
                Ok(None) => return None,
                Ok(Some(Received::Close(payload))) => return Some(self.peer_closed(&payload, workspace, now)),
                Ok(Some(Received::Message(message))) if open => return Some(Event::Message(message)),
                Ok(Some(Received::Ping(payload))) if open => {
                    self.queue_control(Opcode::Pong, payload.bytes(), workspace);
                    return Some(Event::Ping(payload));
                }
                Ok(Some(Received::Pong(payload))) if open => return Some(Event::Pong(payload)),
                // After our Close nothing but the peer's counts (RFC 6455 §7.1.2).
                Ok(Some(Received::Message(_) | Received::Ping(_) | Received::Pong(_))) => {}
                Err(violation) => return Some(self.fail(violation, workspace, now)),
            }
        }
    }

    /// The end of input that came while earlier input still waited.
    fn late_eof(&mut self, workspace: &Workspace, now: Tick) -> Option<Event<'static>> {
        if self.extra.as_ref().is_some_and(|extra| extra.eof_waits) {
            self.transport_ended(workspace, now)
        } else {
            None
        }
    }

    /// Ends one round of [`Connection::poll_event`]: what a pause left in `input` is kept for later.
    #[inline]
    pub fn end_input(&mut self, input: &mut Input<'_>, workspace: &mut Workspace) {
        if input.is_empty() && self.extra.is_none() {
            return;
        }
        if !input.is_empty() {
            let rest = input.take_all();
            extra::ensure(&mut self.extra, workspace).waiting.extend_from_slice(rest);
        }
        extra::release_if_idle(&mut self.extra, workspace);
    }

    /// Input that a pause left behind, to be given to [`Connection::poll_event`] before anything newer. Empty if only
    /// the end of input was left behind.
    pub fn take_waiting(&mut self) -> Option<Vec<u8>> {
        if self.is_opening() || !self.stage_reads() {
            return None;
        }
        let extra = self.extra.as_mut()?;
        (!extra.waiting.is_empty() || extra.eof_waits).then(|| std::mem::take(&mut extra.waiting))
    }

    /// Whether what is read must go through `Connection::decrypt`, which only the feature `tls` has.
    pub fn is_secure(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.secure().is_some();
        #[cfg(not(feature = "tls"))]
        false
    }

    /// Appends to `plaintext` what `arrived` says under TLS.
    ///
    /// # Errors
    ///
    /// If the peer breaks the rules of TLS. The alert is queued; give the plaintext to
    /// [`Connection::poll_event`] and then call [`Connection::handle_eof`].
    #[cfg(feature = "tls")]
    pub fn decrypt(&mut self, arrived: &mut [u8], plaintext: &mut Vec<u8>) -> Result<Opened, crate::tls::TlsError> {
        let Some(secure) = self.extra.as_mut().and_then(|extra| extra.secure.as_mut()) else {
            plaintext.extend_from_slice(arrived);
            return Ok(Opened { peer_closed: false });
        };
        secure.open(arrived, plaintext)
    }

    /// The peer turned out to speak no TLS; what it is answered goes out plain.
    #[cfg(feature = "tls")]
    pub fn forsake_tls(&mut self) {
        if let Some(extra) = &mut self.extra {
            extra.secure = None;
        }
    }

    /// The peer sends no more: FIN, or close_notify under TLS. While a pause keeps earlier input waiting, its turn
    /// comes after that.
    pub fn handle_eof(&mut self, workspace: &Workspace, now: Tick) -> Option<Event<'static>> {
        if let (Stage::Open(_), Some(extra)) = (&self.stage, &mut self.extra)
            && !extra.waiting.is_empty()
        {
            extra.eof_waits = true;
            return None;
        }
        self.transport_ended(workspace, now)
    }

    fn transport_ended(&mut self, workspace: &Workspace, now: Tick) -> Option<Event<'static>> {
        let event = self.ended_by_transport();
        if !matches!(self.stage, Stage::Ending(_)) {
            self.end(workspace, now);
        }
        if let Stage::Ending(ending) = &mut self.stage {
            ending.fin_heard = true;
        }
        event
    }

    /// The transport is broken: nothing can be written any more either.
    pub fn handle_reset(&mut self, workspace: &mut Workspace, now: Tick) -> Option<Event<'static>> {
        let event = self.transport_ended(workspace, now);
        self.give_up(workspace);
        event
    }

    fn ended_by_transport(&self) -> Option<Event<'static>> {
        match &self.stage {
            Stage::Opening(_) => Some(Event::Abandoned(Abandoned::Left)),
            Stage::Open(websocket) => Some(Event::Closed(match websocket.phase {
                websocket::Phase::Open => without_words(CloseCode::ABNORMAL, Cause::Transport),
                websocket::Phase::AwaitingClose { code } => without_words(code, Cause::Local),
            })),
            Stage::Ending(_) => None,
        }
    }

    /// When [`Connection::handle_timeout`] must next be called; [`Tick::NEVER`] if nothing is due.
    pub fn deadline(&self, workspace: &Workspace) -> Tick {
        match &self.stage {
            Stage::Opening(opening) => opening.give_up_at,
            Stage::Open(websocket) => websocket.deadline(&workspace.spans),
            Stage::Ending(ending) => ending.give_up_at,
        }
    }

    /// Time has passed. Harmless when nothing is due.
    pub fn handle_timeout(&mut self, workspace: &mut Workspace, now: Tick) -> Option<Event<'static>> {
        match &mut self.stage {
            Stage::Opening(opening) if now >= opening.give_up_at => {
                self.time_out_opening(workspace, now);
                Some(Event::Abandoned(Abandoned::TimedOut))
            }
            Stage::Ending(ending) if now >= ending.give_up_at => {
                self.give_up(workspace);
                None
            }
            Stage::Opening(_) | Stage::Ending(_) => None,
            Stage::Open(websocket) => {
                let due = websocket.due(&workspace.spans, now);
                self.handle_due(due, workspace, now)
            }
        }
    }

    fn handle_due(&mut self, due: Due, workspace: &mut Workspace, now: Tick) -> Option<Event<'static>> {
        match due {
            Due::Nothing => None,
            Due::Ping => {
                if let Stage::Open(websocket) = &mut self.stage {
                    websocket.ping_sent = true;
                }
                self.queue_control(Opcode::Ping, &[], workspace);
                None
            }
            Due::Idle => {
                // Going away: the peer may be alive and only mute; 1001 invites it to come again.
                self.queue_close(CloseCode::GOING_AWAY, "idle", workspace);
                self.end(workspace, now);
                Some(Event::Closed(without_words(CloseCode::GOING_AWAY, Cause::Idle)))
            }
            Due::Retire => {
                self.close(CloseCode::GOING_AWAY, "going away", workspace, now);
                None
            }
            Due::CloseTimeout => {
                let event = self.ended_by_transport();
                self.end(workspace, now);
                self.give_up(workspace);
                event
            }
        }
    }

    fn time_out_opening(&mut self, workspace: &mut Workspace, now: Tick) {
        let Stage::Opening(opening) = &self.stage else {
            unreachable!("only called while opening");
        };
        let began = self.extra.as_ref().is_some_and(|extra| !extra.waiting.is_empty());
        match opening.phase {
            opening::Phase::Reading if began => self.respond(&Response::text(408, HEAD_TOO_SLOW), workspace, now),
            // Nothing was asked, so there is nothing to answer.
            opening::Phase::Reading => self.end(workspace, now),
            opening::Phase::Deciding => self.respond(&Response::text(503, DECISION_TOO_SLOW), workspace, now),
        }
    }

    /// Waits for nobody any more: the socket is to be closed, whatever is still queued.
    fn give_up(&mut self, workspace: &mut Workspace) {
        if let Stage::Ending(ending) = &mut self.stage {
            *ending = Ending { give_up_at: Tick::NEVER, fin_sent: true, fin_heard: true };
        }
        self.drop_queue(workspace);
    }

    fn peer_closed(&mut self, payload: &Payload<'_>, workspace: &mut Workspace, now: Tick) -> Event<'static> {
        let Stage::Open(websocket) = &self.stage else {
            unreachable!("only an open WebSocket reads frames");
        };
        let phase = websocket.phase;
        let frame = match close::parse_close(payload.bytes()) {
            Ok(frame) => frame,
            Err(violation) => return self.fail(violation, workspace, now),
        };
        let closed = match phase {
            websocket::Phase::AwaitingClose { code } => without_words(code, Cause::Local),
            websocket::Phase::Open => {
                // The answer carries the peer's code (RFC 6455 §5.5.1) and words, and is empty if the peer's was.
                self.queue_close(frame.code, frame.reason, workspace);
                Closed { code: frame.code, reason: frame.reason.to_owned(), cause: Cause::Peer }
            }
        };
        self.end(workspace, now);
        Event::Closed(closed)
    }

    /// Fails the WebSocket (RFC 6455 §7.1.7).
    fn fail(&mut self, violation: Violation, workspace: &mut Workspace, now: Tick) -> Event<'static> {
        if let Stage::Open(WebSocket { phase: websocket::Phase::Open, .. }) = &self.stage {
            self.queue_close(violation.close_code(), "", workspace);
        }
        self.end(workspace, now);
        Event::Closed(without_words(violation.close_code(), Cause::Violation(violation)))
    }

    fn end(&mut self, workspace: &Workspace, now: Tick) {
        let give_up_at = match &self.stage {
            // The time since our Close counts: one span in all.
            Stage::Open(WebSocket { phase: websocket::Phase::AwaitingClose { .. }, end_at, .. }) => *end_at,
            Stage::Opening(_) | Stage::Open(_) | Stage::Ending(_) => now.plus(workspace.spans.close),
        };
        // The end of input may have come already, behind what waited.
        let fin_heard = self.extra.as_ref().is_some_and(|extra| extra.eof_waits);
        if let Some(extra) = &mut self.extra {
            extra.forget_websocket();
        }
        self.stage = Stage::Ending(Ending { give_up_at, fin_sent: false, fin_heard });
    }

    // ---- what the application wants --------------------------------------------------------------------------

    /// Answers the request head: from now on this is a WebSocket. `response` is the whole 101 head.
    ///
    /// # Panics
    ///
    /// If the connection is not [opening](Connection::is_opening).
    pub fn accept(
        &mut self,
        deflate: Option<Agreement>,
        response: impl FnOnce(&mut Vec<u8>),
        workspace: &mut Workspace,
        now: Tick,
    ) {
        assert!(self.is_opening(), "only a connection that is opening can be accepted");
        self.outbox_mut(workspace).append(response);
        let websocket = WebSocket::new(Role::Server, deflate, &workspace.limits, &mut workspace.random, now);
        self.stage = Stage::Open(websocket);
    }

    /// Answers the request head with a plain HTTP response, and ends. Does nothing if the connection is not
    /// [opening](Connection::is_opening) any more.
    pub fn respond(&mut self, response: &Response, workspace: &mut Workspace, now: Tick) {
        if !self.is_opening() {
            return;
        }
        self.outbox_mut(workspace).append(|buf| response.write_to(buf));
        self.end(workspace, now);
    }

    /// The answer to the request head comes later; what the peer sends until then waits.
    pub fn defer(&mut self) {
        if let Stage::Opening(opening) = &mut self.stage {
            opening.phase = opening::Phase::Deciding;
        }
    }

    /// Queues a message.
    ///
    /// # Errors
    ///
    /// If the WebSocket is not open, or its queue has no room; then nothing is queued.
    pub fn send(&mut self, kind: MessageKind, body: Body<'_>, workspace: &mut Workspace) -> Result<(), SendError> {
        let terms = self.sendable(body.bytes().len(), workspace)?;
        let mut outbox = self.outbox.take().unwrap_or_else(|| workspace.take_outbox());
        sending::message(&mut self.extra, terms, kind, body, &mut outbox, workspace);
        self.outbox = Some(outbox);
        Ok(())
    }

    /// Queues a message that many peers get.
    ///
    /// # Errors
    ///
    /// As [`Connection::send`].
    pub fn send_broadcast(&mut self, broadcast: &mut Broadcast, workspace: &mut Workspace) -> Result<(), SendError> {
        let terms = self.sendable(broadcast.len(), workspace)?;
        let mut outbox = self.outbox.take().unwrap_or_else(|| workspace.take_outbox());
        broadcast.queue(&mut self.extra, terms, &mut outbox, workspace);
        self.outbox = Some(outbox);
        Ok(())
    }

    /// Queues a ping with up to 125 bytes; more are cut off (RFC 6455 §5.5).
    ///
    /// # Errors
    ///
    /// As [`Connection::send`].
    pub fn ping(&mut self, payload: &[u8], workspace: &mut Workspace) -> Result<(), SendError> {
        self.sendable(payload.len(), workspace)?;
        self.queue_control(Opcode::Ping, &payload[..payload.len().min(CONTROL_LEN_MAX)], workspace);
        Ok(())
    }

    /// Begins the closing handshake (RFC 6455 §7.1.2). Does nothing if it has begun already.
    ///
    /// A code that must not be sent ([`CloseCode::may_be_sent`]) goes out as 1000, and a reason is cut to 123 bytes.
    pub fn close(&mut self, code: CloseCode, reason: &str, workspace: &mut Workspace, now: Tick) {
        let code = if code.may_be_sent() { code } else { CloseCode::NORMAL };
        let give_up_at = now.plus(workspace.spans.close);
        let Stage::Open(websocket) = &mut self.stage else { return };
        if websocket.phase == websocket::Phase::Open {
            websocket.begin_close(code, give_up_at);
            self.queue_close(code, reason, workspace);
        }
    }

    /// The connection is to be closed with 1001 at `at` or before; one that is still opening is given up then.
    pub fn retire_by(&mut self, at: Tick) {
        match &mut self.stage {
            Stage::Opening(opening) => opening.give_up_at = opening.give_up_at.min(at),
            Stage::Open(websocket) => websocket.retire_by(at),
            Stage::Ending(_) => {}
        }
    }

    /// No more messages until [`Connection::resume`]. What has been read already waits.
    pub fn pause(&mut self) {
        if let Stage::Open(websocket) = &mut self.stage
            && websocket.phase == websocket::Phase::Open
        {
            websocket.reading = Reading::Paused;
        }
    }

    /// Messages again. The driver must then look at [`Connection::take_waiting`].
    pub fn resume(&mut self, now: Tick) {
        if let Stage::Open(websocket) = &mut self.stage
            && websocket.reading == Reading::Paused
        {
            websocket.reading = Reading::Flowing;
            websocket.heard(now);
        }
    }

    /// Holds messages back, or no longer, because what they cause would pile up elsewhere. Apart from
    /// [`Connection::pause`], which is the application's.
    pub fn hold(&mut self, held: bool, now: Tick) {
        if let Stage::Open(websocket) = &mut self.stage
            && websocket.phase == websocket::Phase::Open
            && websocket.held != held
        {
            websocket.held = held;
            websocket.heard(now);
        }
    }

    fn sendable(&self, len: usize, workspace: &Workspace) -> Result<receiving::Terms, SendError> {
        let Stage::Open(websocket) = &self.stage else {
            return Err(SendError::NotOpen);
        };
        if websocket.phase != websocket::Phase::Open {
            return Err(SendError::NotOpen);
        }
        if self.queued_bytes().saturating_add(len) > workspace.limits.queued_bytes_max {
            return Err(SendError::QueueFull);
        }
        Ok(websocket.terms)
    }

    fn queue_close(&mut self, code: CloseCode, reason: &str, workspace: &mut Workspace) {
        let mut payload = [0; close::CLOSE_LEN_MAX];
        let len = if code == CloseCode::NO_STATUS { 0 } else { close::encode_close(code, reason, &mut payload) };
        self.queue_control(Opcode::Close, &payload[..len], workspace);
    }

    fn queue_control(&mut self, opcode: Opcode, payload: &[u8], workspace: &mut Workspace) {
        let role = match &self.stage {
            Stage::Open(websocket) => websocket.terms.role,
            Stage::Opening(_) | Stage::Ending(_) => return,
        };
        let mut outbox = self.outbox.take().unwrap_or_else(|| workspace.take_outbox());
        sending::frame_out(role, opcode, false, payload, &mut outbox, workspace);
        self.outbox = Some(outbox);
    }

    // ---- what the socket is to do --------------------------------------------------------------------------

    /// What must be written next; `None` if nothing waits. Under TLS this seals the next records.
    pub fn poll_transmit(&mut self) -> Option<&mut Outbox> {
        #[cfg(feature = "tls")]
        if self.is_secure() {
            return self.poll_transmit_secure();
        }
        self.outbox.as_deref_mut().filter(|outbox| !outbox.is_empty())
    }

    #[cfg(feature = "tls")]
    fn poll_transmit_secure(&mut self) -> Option<&mut Outbox> {
        let ending = matches!(self.stage, Stage::Ending(_));
        let secure = self.extra.as_mut()?.secure.as_mut()?;
        let sealed = self.outbox.as_mut().map_or(Ok(()), |plain| secure.seal(plain));
        let plain_waits = self.outbox.as_ref().is_some_and(|plain| !plain.is_empty());
        if sealed.is_err() || (plain_waits && ending && secure.session().is_handshaking()) {
            // The session cannot carry it any more, and never will.
            if let Some(plain) = &mut self.outbox {
                plain.clear();
            }
        }
        if ending && secure.queued_bytes() == 0 && self.outbox.as_ref().is_none_or(|plain| plain.is_empty()) {
            secure.close();
        }
        Some(secure.cipher()).filter(|cipher| !cipher.is_empty())
    }

    /// Lends what is to be written next to somebody who writes it later, if it lies side by side and is at most
    /// `len_max` bytes. It must come back through [`Connection::return_outbox`]; what is queued meanwhile waits, and
    /// [`Connection::queued_bytes`] does not count what is lent.
    pub fn lend_outbox(&mut self, len_max: usize) -> Option<Box<Outbox>> {
        // Under TLS what is written is not the outbox but the records made from it.
        let fits = |outbox: &Outbox| outbox.segment_count() == 1 && outbox.queued_bytes() <= len_max;
        if self.is_secure() || !self.outbox.as_deref().is_some_and(fits) {
            return None;
        }
        self.outbox.take()
    }

    /// Takes back what was lent; what is left in it goes before everything queued since.
    pub fn return_outbox(&mut self, mut lent: Box<Outbox>, workspace: &mut Workspace) {
        if let Some(mut newer) = self.outbox.take() {
            if lent.is_empty() {
                std::mem::swap(&mut lent, &mut newer);
            } else {
                lent.append_all(&mut newer);
            }
            workspace.give_outbox(newer);
        }
        self.outbox = Some(lent);
        self.transmitted(workspace);
    }

    /// Some of what [`Connection::poll_transmit`] gave is written; boxes that emptied go back.
    pub fn transmitted(&mut self, workspace: &mut Workspace) {
        #[cfg(feature = "tls")]
        if let Some(secure) = self.extra.as_mut().and_then(|extra| extra.secure.as_mut()) {
            secure.release_if_idle();
        }
        if self.outbox.as_ref().is_some_and(|outbox| outbox.is_empty())
            && let Some(outbox) = self.outbox.take()
        {
            workspace.give_outbox(outbox);
        }
    }

    /// The socket took queued bytes after it had been full: the peer reads, so it lives.
    pub fn handle_progress(&mut self, now: Tick) {
        if let Stage::Open(websocket) = &mut self.stage {
            websocket.heard(now);
        }
    }

    /// What the socket needs now. Ask after every call that may have changed something.
    pub fn next_step(&mut self) -> NextStep {
        if self.poll_transmit().is_some() {
            return NextStep::Write;
        }
        match &self.stage {
            Stage::Opening(_) | Stage::Open(_) => NextStep::Wait,
            Stage::Ending(Ending { fin_sent: false, .. }) => NextStep::Fin,
            Stage::Ending(Ending { fin_heard: false, .. }) => NextStep::Wait,
            Stage::Ending(_) => NextStep::Close,
        }
    }

    /// `shutdown(SHUT_WR)` was done.
    pub fn fin_sent(&mut self) {
        if let Stage::Ending(ending) = &mut self.stage {
            ending.fin_sent = true;
        }
    }

    /// Whether the socket should be read: not while the application pauses, nor while too much waits to be sent. After
    /// our Close what is read is dropped, so it is read whatever waits: a peer that writes before it reads gets there.
    pub fn wants_input(&self, workspace: &Workspace) -> bool {
        self.stage_reads() && (!self.is_open() || self.queued_bytes() <= workspace.limits.queued_bytes_pause)
    }

    fn stage_reads(&self) -> bool {
        match &self.stage {
            Stage::Opening(opening) => opening.phase == opening::Phase::Reading,
            Stage::Open(websocket) => websocket.reads(),
            Stage::Ending(ending) => !ending.fin_heard,
        }
    }

    /// It is over and its socket closed: its boxes go back.
    pub fn recycle(mut self, workspace: &mut Workspace) {
        self.drop_queue(workspace);
        extra::release_if_idle(&mut self.extra, workspace);
    }

    // ---- what it is ------------------------------------------------------------------------------------------

    /// Whether the opening handshake is still under way.
    pub fn is_opening(&self) -> bool {
        matches!(self.stage, Stage::Opening(_))
    }

    /// Whether messages flow: not before the handshake, not after either Close.
    pub fn is_open(&self) -> bool {
        matches!(&self.stage, Stage::Open(websocket) if websocket.phase == websocket::Phase::Open)
    }

    /// Whether nothing is left but to write the queue and part.
    pub fn is_ending(&self) -> bool {
        matches!(self.stage, Stage::Ending(_))
    }

    /// Whether the end of a read cut a frame, a message or a record, so that more is bound to come.
    pub fn is_mid_message(&self) -> bool {
        self.extra.as_ref().is_some_and(|extra| extra.is_mid_message())
    }

    /// Bytes that wait to be written.
    pub fn queued_bytes(&self) -> usize {
        let plain = self.outbox.as_ref().map_or(0, |outbox| outbox.queued_bytes());
        #[cfg(feature = "tls")]
        let plain = plain + self.secure().map_or(0, Secure::queued_bytes);
        plain
    }

    /// Bytes of memory in the boxes, beyond the value itself. Codec contexts are counted by what they are known to
    /// hold, not looked into.
    pub fn heap_bytes(&self) -> usize {
        let outbox = self.outbox.as_ref().map_or(0, |outbox| size_of::<Outbox>() + outbox.heap_bytes());
        outbox + self.extra.as_ref().map_or(0, |extra| extra.heap_bytes())
    }

    /// What is known about the TLS session, once its handshake is done.
    #[cfg(feature = "tls")]
    pub fn tls_facts(&self) -> Option<crate::tls::TlsFacts> {
        self.secure().map(|secure| secure.session().facts())
    }

    #[cfg(feature = "tls")]
    fn secure(&self) -> Option<&Secure> {
        self.extra.as_ref()?.secure.as_deref()
    }

    fn outbox_mut(&mut self, workspace: &mut Workspace) -> &mut Outbox {
        self.outbox.get_or_insert_with(|| workspace.take_outbox())
    }

    fn drop_queue(&mut self, workspace: &mut Workspace) {
        if let Some(outbox) = self.outbox.take() {
            workspace.give_outbox(outbox);
        }
        #[cfg(feature = "tls")]
        if let Some(secure) = self.extra.as_mut().and_then(|extra| extra.secure.take()) {
            drop(secure);
        }
    }
}

/// A peer that began its request gets told why it is not heard (RFC 9110 §15.5.9).
const HEAD_TOO_SLOW: &str = "The request head took too long to arrive.\n";
/// The peer did its part in time (RFC 9110 §15.6.4).
const DECISION_TOO_SLOW: &str = "The server took too long to decide about this request. Try again later.\n";

fn without_words(code: CloseCode, cause: Cause) -> Closed {
    Closed { code, reason: String::new(), cause }
}
