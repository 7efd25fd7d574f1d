//! What the application wants of a connection: to answer, to send, to wait, to close.

use bytes::Bytes;

use super::events::SendError;
use super::sending::{self, Body, Broadcast, Framing};
use super::websocket::{self, Reading, WebSocket};
use super::workspace::Workspace;
use super::{Connection, Stage, Tick, opening, streaming};
use crate::http::Response;
use crate::protocol::close::{self, CloseCode};
use crate::protocol::deflate::Agreement;
use crate::protocol::frame::CONTROL_LEN_MAX;
use crate::protocol::{MessageKind, Opcode, Role};

impl Connection {
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

    /// Queues a message. To a stream it goes as it is, whatever its kind.
    ///
    /// # Errors
    ///
    /// If the connection is not open, or its queue has no room; then nothing is queued.
    pub fn send(&mut self, kind: MessageKind, body: Body<'_>, workspace: &mut Workspace) -> Result<(), SendError> {
        let framing = self.sendable(body.bytes().len(), workspace)?;
        let mut outbox = self.outbox.take().unwrap_or_else(|| workspace.take_outbox());
        match framing {
            Framing::Frames(terms) => sending::message(&mut self.extra, terms, kind, body, &mut outbox, workspace),
            Framing::Nothing => sending::as_it_is(body, &mut outbox),
        }
        self.outbox = Some(outbox);
        Ok(())
    }

    /// Queues a message that many peers get.
    ///
    /// # Errors
    ///
    /// As [`Connection::send`].
    pub fn send_broadcast(&mut self, broadcast: &mut Broadcast, workspace: &mut Workspace) -> Result<(), SendError> {
        let framing = self.sendable(broadcast.len(), workspace)?;
        let mut outbox = self.outbox.take().unwrap_or_else(|| workspace.take_outbox());
        match framing {
            Framing::Frames(terms) => broadcast.queue(&mut self.extra, terms, &mut outbox, workspace),
            Framing::Nothing => outbox.push_shared(broadcast.payload()),
        }
        self.outbox = Some(outbox);
        Ok(())
    }

    /// Queues a message that many streams get, behind something of this one's own.
    ///
    /// # Errors
    ///
    /// As [`Connection::send`]; all of it is queued or nothing. A WebSocket is no open stream.
    pub fn send_prefaced(
        &mut self,
        preface: &[u8],
        payload: Bytes,
        workspace: &mut Workspace,
    ) -> Result<(), SendError> {
        match self.sendable(preface.len() + payload.len(), workspace)? {
            Framing::Frames(_) => Err(SendError::NotOpen),
            Framing::Nothing => {
                let outbox = self.outbox_mut(workspace);
                outbox.push_copy(preface);
                outbox.push_shared(payload);
                Ok(())
            }
        }
    }

    /// Queues a ping with up to 125 bytes; more are cut off (RFC 6455 §5.5). To a stream it is a comment without them.
    ///
    /// # Errors
    ///
    /// As [`Connection::send`].
    pub fn ping(&mut self, payload: &[u8], workspace: &mut Workspace) -> Result<(), SendError> {
        match self.sendable(payload.len(), workspace)? {
            Framing::Frames(_) => {
                self.queue_control(Opcode::Ping, &payload[..payload.len().min(CONTROL_LEN_MAX)], workspace);
            }
            Framing::Nothing => self.queue_heartbeat(workspace),
        }
        Ok(())
    }

    /// Begins the closing handshake (RFC 6455 §7.1.2). Does nothing if it has begun already.
    ///
    /// A code that must not be sent ([`CloseCode::may_be_sent`]) goes out as 1000, and a reason is cut to 123 bytes. A
    /// stream just ends: it has no words for it.
    pub fn close(&mut self, code: CloseCode, reason: &str, workspace: &mut Workspace, now: Tick) {
        let code = if code.may_be_sent() { code } else { CloseCode::NORMAL };
        let give_up_at = now.plus(workspace.spans.close);
        match &mut self.stage {
            Stage::Open(websocket) if websocket.phase == websocket::Phase::Open => {
                websocket.begin_close(code, give_up_at);
                self.queue_close(code, reason, workspace);
            }
            Stage::Streaming(stream) => stream.begin_close(code, now),
            Stage::Opening(_) | Stage::Open(_) | Stage::Ending(_) => {}
        }
    }

    /// The connection is to be closed with 1001 at `at` or before; one that is still opening is given up then.
    pub fn retire_by(&mut self, at: Tick) {
        match &mut self.stage {
            Stage::Opening(opening) => opening.give_up_at = opening.give_up_at.min(at),
            Stage::Open(websocket) => websocket.retire_by(at),
            Stage::Streaming(stream) => stream.retire_by(at),
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

    pub(super) fn sendable(&self, len: usize, workspace: &Workspace) -> Result<Framing, SendError> {
        let framing = match &self.stage {
            Stage::Open(websocket) if websocket.phase == websocket::Phase::Open => Framing::Frames(websocket.terms),
            Stage::Streaming(stream) if stream.phase == streaming::Phase::Open => Framing::Nothing,
            Stage::Opening(_) | Stage::Open(_) | Stage::Streaming(_) | Stage::Ending(_) => {
                return Err(SendError::NotOpen);
            }
        };
        if self.queued_bytes().saturating_add(len) > workspace.limits.queued_bytes_max {
            return Err(SendError::QueueFull);
        }
        Ok(framing)
    }

    pub(super) fn queue_close(&mut self, code: CloseCode, reason: &str, workspace: &mut Workspace) {
        let mut payload = [0; close::CLOSE_LEN_MAX];
        let len = if code == CloseCode::NO_STATUS { 0 } else { close::encode_close(code, reason, &mut payload) };
        self.queue_control(Opcode::Close, &payload[..len], workspace);
    }

    pub(super) fn queue_control(&mut self, opcode: Opcode, payload: &[u8], workspace: &mut Workspace) {
        let role = match &self.stage {
            Stage::Open(websocket) => websocket.terms.role,
            Stage::Opening(_) | Stage::Streaming(_) | Stage::Ending(_) => return,
        };
        let mut outbox = self.outbox.take().unwrap_or_else(|| workspace.take_outbox());
        sending::frame_out(role, opcode, false, payload, &mut outbox, workspace);
        self.outbox = Some(outbox);
    }
}
