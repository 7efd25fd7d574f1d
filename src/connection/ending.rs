//! How a connection ends: the closing handshake, silence, violations, the end of the transport (RFC 6455 §7).

use super::events::{Abandoned, Cause, Closed, Event};
use super::websocket::{self, Due, WebSocket};
use super::workspace::Workspace;
use super::{Connection, Stage, Tick, opening, streaming};
use crate::http::Response;
use crate::protocol::close::{self, CloseCode};
use crate::protocol::{Opcode, Payload, Violation};

#[derive(Clone, Copy, Debug)]
pub(super) struct Ending {
    pub(super) give_up_at: Tick,
    pub(super) fin_sent: bool,
    pub(super) fin_heard: bool,
}

impl Ending {
    /// Whether the socket is to be closed.
    pub(super) fn is_over(self) -> bool {
        self.fin_sent && self.fin_heard
    }
}

impl Connection {
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

    pub(super) fn transport_ended(&mut self, workspace: &Workspace, now: Tick) -> Option<Event<'static>> {
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

    pub(super) fn ended_by_transport(&self) -> Option<Event<'static>> {
        match &self.stage {
            Stage::Opening(_) => Some(Event::Abandoned(Abandoned::Left)),
            Stage::Open(websocket) => Some(Event::Closed(match websocket.phase {
                websocket::Phase::Open => without_words(CloseCode::ABNORMAL, Cause::Transport),
                websocket::Phase::AwaitingClose { code } => without_words(code, Cause::Local),
            })),
            Stage::Streaming(stream) => Some(Event::Closed(match stream.phase {
                // There is no other way to take leave of a stream.
                streaming::Phase::Open => without_words(CloseCode::NO_STATUS, Cause::Peer),
                streaming::Phase::Closing { code } => without_words(code, Cause::Local),
            })),
            Stage::Ending(_) => None,
        }
    }

    /// When [`Connection::handle_timeout`] must next be called; [`Tick::NEVER`] if nothing is due.
    pub fn deadline(&self, workspace: &Workspace) -> Tick {
        match &self.stage {
            Stage::Opening(opening) => opening.give_up_at,
            Stage::Open(websocket) => websocket.deadline(&workspace.spans),
            Stage::Streaming(stream) => stream.deadline(),
            Stage::Ending(ending) => ending.give_up_at,
        }
    }

    /// Time has passed. Harmless when nothing is due.
    pub fn handle_timeout(&mut self, workspace: &mut Workspace, now: Tick) -> Option<Event<'static>> {
        let is_behind = self.queued_bytes() > 0;
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
            Stage::Streaming(stream) => match stream.due(&workspace.spans, is_behind, now) {
                streaming::Due::Nothing => None,
                streaming::Due::Heartbeat => {
                    self.queue_heartbeat(workspace);
                    None
                }
                streaming::Due::End(code, cause) => {
                    self.end(workspace, now);
                    Some(Event::Closed(without_words(code, cause)))
                }
            },
        }
    }

    pub(super) fn handle_due(&mut self, due: Due, workspace: &mut Workspace, now: Tick) -> Option<Event<'static>> {
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

    pub(super) fn time_out_opening(&mut self, workspace: &mut Workspace, now: Tick) {
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
    pub(super) fn give_up(&mut self, workspace: &mut Workspace) {
        if let Stage::Ending(ending) = &mut self.stage {
            *ending = Ending { give_up_at: Tick::NEVER, fin_sent: true, fin_heard: true };
        }
        self.drop_queue(workspace);
    }

    pub(super) fn peer_closed(
        &mut self,
        payload: &Payload<'_>,
        workspace: &mut Workspace,
        now: Tick,
    ) -> Event<'static> {
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
    pub(super) fn fail(&mut self, violation: Violation, workspace: &mut Workspace, now: Tick) -> Event<'static> {
        if let Stage::Open(WebSocket { phase: websocket::Phase::Open, .. }) = &self.stage {
            self.queue_close(violation.close_code(), "", workspace);
        }
        self.end(workspace, now);
        Event::Closed(without_words(violation.close_code(), Cause::Violation(violation)))
    }

    pub(super) fn end(&mut self, workspace: &Workspace, now: Tick) {
        let give_up_at = match &self.stage {
            // The time since our Close counts: one span in all.
            Stage::Open(WebSocket { phase: websocket::Phase::AwaitingClose { .. }, end_at, .. }) => *end_at,
            Stage::Opening(_) | Stage::Open(_) | Stage::Streaming(_) | Stage::Ending(_) => {
                now.plus(workspace.spans.close)
            }
        };
        // The end of input may have come already, behind what waited.
        let fin_heard = self.extra.as_ref().is_some_and(|extra| extra.eof_waits);
        if let Some(extra) = &mut self.extra {
            extra.forget_websocket();
        }
        self.stage = Stage::Ending(Ending { give_up_at, fin_sent: false, fin_heard });
    }
}

/// A peer that began its request gets told why it is not heard (RFC 9110 §15.5.9).
const HEAD_TOO_SLOW: &str = "The request head took too long to arrive.\n";
/// The peer did its part in time (RFC 9110 §15.6.4).
const DECISION_TOO_SLOW: &str = "The server took too long to decide about this request. Try again later.\n";

fn without_words(code: CloseCode, cause: Cause) -> Closed {
    Closed { code, reason: String::new(), cause }
}
