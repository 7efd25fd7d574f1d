//! An open WebSocket: liveness and the closing handshake (RFC 6455 §5.5, §7).

use super::limits::{Limits, Spans};
use super::random::Random;
use super::receiving::Terms;
use super::tick::Tick;
use crate::protocol::close::CloseCode;
use crate::protocol::deflate::Agreement;
use crate::protocol::frame::Role;

/// What an open connection remembers between messages: 24 bytes.
#[derive(Debug)]
pub(super) struct WebSocket {
    pub(super) terms: Terms,
    pub(super) phase: Phase,
    pub(super) reading: Reading,
    /// Whether messages are held back because their consequences pile up elsewhere.
    pub(super) held: bool,
    /// Whether a ping went out since the peer was last heard.
    pub(super) ping_sent: bool,
    last_heard: Tick,
    /// While open: when it has lived long enough. While closing: when the peer is given up.
    pub(super) end_at: Tick,
}

/// How far the closing handshake is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Messages flow both ways.
    Open,
    /// We sent Close with this code; what still arrives before the peer's Close is dropped (RFC 6455 §7.1.2).
    AwaitingClose { code: CloseCode },
}

/// Whether the application wants more messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    Flowing,
    Paused,
}

/// What is due at a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    /// The peer was silent long enough to be asked (RFC 6455 §5.5.2).
    Ping,
    /// The peer was silent too long.
    Idle,
    /// The connection has lived as long as it may.
    Retire,
    /// The peer did not answer our Close.
    CloseTimeout,
}

impl WebSocket {
    pub(super) fn new(role: Role, deflate: Option<Agreement>, limits: &Limits, random: &mut Random, now: Tick) -> Self {
        Self {
            terms: Terms { role, deflate },
            phase: Phase::Open,
            reading: Reading::Flowing,
            held: false,
            ping_sent: false,
            last_heard: now,
            end_at: limits.end_of_life(random, now),
        }
    }

    /// Any byte is a sign of life.
    pub(super) fn heard(&mut self, now: Tick) {
        self.last_heard = now;
        self.ping_sent = false;
    }

    /// Whether frames are to be read.
    pub(super) fn reads(&self) -> bool {
        self.reading == Reading::Flowing && !self.held
    }

    /// When [`WebSocket::due`] has something to say.
    pub(super) fn deadline(&self, spans: &Spans) -> Tick {
        match self.phase {
            Phase::AwaitingClose { .. } => self.end_at,
            Phase::Open => self.ping_at(spans).min(self.idle_at(spans)).min(self.end_at),
        }
    }

    /// What is due now, the gravest first.
    pub(super) fn due(&self, spans: &Spans, now: Tick) -> Due {
        match self.phase {
            Phase::AwaitingClose { .. } if now >= self.end_at => Due::CloseTimeout,
            Phase::AwaitingClose { .. } => Due::Nothing,
            Phase::Open if now >= self.idle_at(spans) => Due::Idle,
            Phase::Open if now >= self.end_at => Due::Retire,
            Phase::Open if now >= self.ping_at(spans) => Due::Ping,
            Phase::Open => Due::Nothing,
        }
    }

    /// The connection is to end at `at` at the latest.
    pub(super) fn retire_by(&mut self, at: Tick) {
        if self.phase == Phase::Open {
            self.end_at = self.end_at.min(at);
        }
    }

    /// Our Close goes out; the peer's must come by `give_up_at`. Nothing keeps it from being read.
    pub(super) fn begin_close(&mut self, code: CloseCode, give_up_at: Tick) {
        self.phase = Phase::AwaitingClose { code };
        self.end_at = give_up_at;
        self.reading = Reading::Flowing;
        self.held = false;
    }

    fn idle_at(&self, spans: &Spans) -> Tick {
        // Who is not read cannot be heard.
        if self.reads() { self.last_heard.plus(spans.idle) } else { Tick::NEVER }
    }

    fn ping_at(&self, spans: &Spans) -> Tick {
        if self.reads() && !self.ping_sent { self.last_heard.plus(spans.ping) } else { Tick::NEVER }
    }
}
