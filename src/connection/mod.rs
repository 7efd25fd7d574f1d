//! One peer of a WebSocket or a stream as a state machine: bytes and time in, events and bytes out.
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
//!                ├──────stream──► Streaming ──close, FIN, deafness───────┤
//!                └──────────────refuse, plain HTTP───────────────────────┘
//! ```

mod ending;
mod events;
mod extra;
mod input;
mod large;
mod limits;
mod memory;
mod opening;
mod outbox;
mod random;
mod receiving;
#[cfg(feature = "tls")]
mod secure;
mod sending;
mod streaming;
mod tick;
mod transmitting;
mod websocket;
mod wishes;
mod workspace;

#[cfg(test)]
mod tests;

pub use events::{Abandoned, Cause, Closed, Event, NextStep, SendError};
pub use input::Input;
pub use limits::{DeflateMode, Limits};
pub use memory::Memory;
pub use outbox::Outbox;
pub use random::Random;
pub use sending::{Body, Broadcast};
pub use tick::{Span, TICK_MILLIS, Tick};
pub use workspace::Workspace;

use crate::http::Response;
use crate::protocol::Opcode;
use crate::protocol::deflate::Agreement;
use crate::protocol::frame::Role;
use ending::Ending;
use extra::Extra;
use opening::Opening;
use receiving::Received;
#[cfg(feature = "tls")]
pub use secure::Opened;
#[cfg(feature = "tls")]
use secure::Secure;
use streaming::EventStream;
use websocket::WebSocket;

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
    /// A response that goes on.
    Streaming(EventStream),
    /// Nothing more is accepted from either side: the queue is written, then FIN, then input is dropped until the
    /// peer's FIN, so that a reset never destroys what is still on its way (RFC 6455 §7.1.1).
    Ending(Ending),
}

const _: () = {
    // Two boxes and 24 bytes of state: with its timer node and generation a connection fits a cache line.
    assert!(size_of::<Connection>() <= 40);
};

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
            Stage::Streaming(_) | Stage::Ending(_) => {
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

    /// Where the next bytes belong, if a large message is under way: to be received to the beginning of it, and told to
    /// [`Connection::received_in_place`]. So they are not copied. It is never empty, and holds what is there already.
    pub fn message_buffer(&mut self, workspace: &mut Workspace) -> Option<&mut [u8]> {
        if !self.receives_large() {
            return None;
        }
        receiving::message_buffer(self.extra.as_mut()?, &mut workspace.large)
    }

    /// Whether a large message is under way, whose bytes [`Connection::message_buffer`] would take.
    pub fn receives_large(&self) -> bool {
        let Stage::Open(websocket) = &self.stage else { return false };
        let takes = |extra: &Extra| extra.waiting.is_empty() && receiving::has_much_to_come(extra);
        websocket.reads() && !self.is_secure() && self.extra.as_deref().is_some_and(takes)
    }

    /// `len` bytes were received to the beginning of [`Connection::message_buffer`].
    ///
    /// # Panics
    ///
    /// If there is no such buffer.
    pub fn received_in_place(&mut self, len: usize, workspace: &mut Workspace, now: Tick) -> Option<Event<'static>> {
        let Stage::Open(websocket) = &mut self.stage else {
            panic!("nothing is received before or after the WebSocket")
        };
        websocket.heard(now);
        let open = websocket.phase == websocket::Phase::Open;
        let event = match receiving::received_in_place(&mut self.extra, websocket.terms, len, workspace) {
            Ok(Some(Received::Message(message))) if open => Some(Event::Message(message)),
            // After our Close nothing but the peer's counts (RFC 6455 §7.1.2).
            Ok(_) => None,
            Err(violation) => Some(self.fail(violation, workspace, now)),
        };
        extra::release_if_idle(&mut self.extra, workspace);
        event
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

    // ---- what it is ------------------------------------------------------------------------------------------

    /// Whether the opening handshake is still under way.
    pub fn is_opening(&self) -> bool {
        matches!(self.stage, Stage::Opening(_))
    }

    /// Whether messages flow: not before the handshake, not after either Close.
    pub fn is_open(&self) -> bool {
        match &self.stage {
            Stage::Open(websocket) => websocket.phase == websocket::Phase::Open,
            Stage::Streaming(stream) => stream.phase == streaming::Phase::Open,
            Stage::Opening(_) | Stage::Ending(_) => false,
        }
    }

    /// Whether nothing is left but to write the queue and part.
    pub fn is_ending(&self) -> bool {
        matches!(self.stage, Stage::Ending(_))
    }

    /// Whether the end of a read cut a frame, a message or a record, so that more is bound to come.
    #[cfg(test)]
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

    /// Bytes of memory in the boxes, beyond the value itself, by what they are there for.
    pub fn memory(&self) -> Memory {
        let mut memory = self.extra.as_ref().map_or_else(Memory::default, |extra| extra.memory());
        memory.queue += self.outbox.as_ref().map_or(0, |outbox| size_of::<Outbox>() + outbox.heap_bytes());
        memory
    }

    /// Whether it has any of the boxes that [`Connection::memory`] looks into.
    pub fn has_boxes(&self) -> bool {
        self.outbox.is_some() || self.extra.is_some()
    }

    /// All of [`Connection::memory`].
    pub fn heap_bytes(&self) -> usize {
        self.memory().total()
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
