//! A stream of Server-Sent Events: the body of a response that ends with its connection (HTML Living Standard, §9.2;
//! RFC 9112 §6.3).
//!
//! What is sent goes out as it is given. Of the peer nothing is awaited but that it takes this and one day leaves.

use super::events::Cause;
use super::limits::Spans;
use super::tick::{Span, Tick};
use super::workspace::Workspace;
use super::{Connection, Stage, extra};
use crate::protocol::close::CloseCode;

/// What a stream remembers: 20 bytes.
#[derive(Debug)]
pub(super) struct EventStream {
    pub(super) phase: Phase,
    /// The peer was last known to have taken everything, or something after it had taken nothing for a while.
    last_taken: Tick,
    /// When to look whether the peer still takes what it is sent.
    look_at: Tick,
    /// While open: when it has lived long enough. While closing: the next tick.
    end_at: Tick,
}

/// How far its end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// It was closed with this code, and the application is still to be told.
    Closing {
        code: CloseCode,
    },
}

/// What is due at a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    /// A sign of life, to the peer and to proxies on the way.
    Heartbeat,
    /// The stream is over.
    End(CloseCode, Cause),
}

impl EventStream {
    fn new(spans: &Spans, end_at: Tick, now: Tick) -> Self {
        Self { phase: Phase::Open, last_taken: now, look_at: now.plus(look_every(spans)), end_at }
    }

    /// The peer takes what it is sent.
    pub(super) fn taken(&mut self, now: Tick) {
        self.last_taken = now;
    }

    /// When [`EventStream::due`] has something to say.
    pub(super) fn deadline(&self) -> Tick {
        match self.phase {
            Phase::Open => self.look_at.min(self.end_at),
            Phase::Closing { .. } => self.end_at,
        }
    }

    /// What is due now. `is_behind` is whether something waits that the peer has not taken.
    pub(super) fn due(&mut self, spans: &Spans, is_behind: bool, now: Tick) -> Due {
        match self.phase {
            Phase::Closing { code } if now >= self.end_at => Due::End(code, Cause::Local),
            Phase::Closing { .. } => Due::Nothing,
            Phase::Open if now >= self.end_at => Due::End(CloseCode::GOING_AWAY, Cause::Local),
            Phase::Open if now < self.look_at => Due::Nothing,
            Phase::Open => {
                self.look_at = now.plus(look_every(spans));
                if is_behind {
                    let is_dead = now >= self.last_taken.plus(spans.idle);
                    return if is_dead { Due::End(CloseCode::GOING_AWAY, Cause::Idle) } else { Due::Nothing };
                }
                self.last_taken = now;
                if spans.ping == Span::ENDLESS { Due::Nothing } else { Due::Heartbeat }
            }
        }
    }

    /// It is to end at `at` at the latest.
    pub(super) fn retire_by(&mut self, at: Tick) {
        self.end_at = self.end_at.min(at);
    }

    /// It ends with this code. There is nobody to wait for, but whoever calls must not be called back.
    pub(super) fn begin_close(&mut self, code: CloseCode, now: Tick) {
        if self.phase == Phase::Open {
            self.phase = Phase::Closing { code };
            self.end_at = Tick(now.0.saturating_add(1));
        }
    }
}

impl Connection {
    /// Answers the request head with the beginning of a stream: from now on what is sent goes out as it is, and what the
    /// peer sends is ignored. `head` is the whole head of a response without a length.
    ///
    /// # Panics
    ///
    /// If the connection is not [opening](Connection::is_opening).
    pub fn stream(&mut self, head: impl FnOnce(&mut Vec<u8>), workspace: &mut Workspace, now: Tick) {
        assert!(self.is_opening(), "only a connection that is opening can become a stream");
        self.outbox_mut(workspace).append(head);
        let end_at = workspace.limits.end_of_life(&mut workspace.random, now);
        self.stage = Stage::Streaming(EventStream::new(&workspace.spans, end_at, now));
        if let Some(extra) = &mut self.extra {
            // What came behind the request while the answer was deferred.
            extra.forget_websocket();
        }
        extra::release_if_idle(&mut self.extra, workspace);
    }

    /// Whether it is, or was until its end, a stream.
    #[inline]
    pub fn is_stream(&self) -> bool {
        matches!(self.stage, Stage::Streaming(_))
    }

    pub(super) fn queue_heartbeat(&mut self, workspace: &mut Workspace) {
        self.outbox_mut(workspace).push_copy(HEARTBEAT);
    }
}

/// How often is looked whether the peer takes what it is sent. When something may wait for long, the looking is all
/// that finds a peer that is gone: one that never speaks cannot fall silent.
fn look_every(spans: &Spans) -> Span {
    spans.ping.min(spans.idle)
}

/// A comment, which means nothing to the reader of a stream.
const HEARTBEAT: &[u8] = b":\n\n";
