//! What a peer may use, with defaults. Every limit is checked before memory is spent on it.

use std::time::Duration;

use super::random::Random;
use super::tick::{Span, Tick};

/// What one peer may use, and how long it may take.
///
/// Sizes are in bytes. A limit that is passed closes the connection with the code named beside it.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest message, after reassembly, both as it is sent and inflated. Close code 1009. Default 16 MiB.
    pub message_bytes_max: usize,
    /// Largest payload of one frame, as announced by its header. Close code 1009. Default 16 MiB.
    pub frame_bytes_max: usize,
    /// Most fragments that one message may come in. Close code 1008. Default 131,072.
    pub fragments_max: u32,
    /// Most bytes that may wait to be sent to one peer before the slow-consumer policy applies. Default 64 MiB.
    pub queued_bytes_max: usize,
    /// Queued bytes above which nothing more is read from that peer. Default 1 MiB.
    pub queued_bytes_pause: usize,
    /// Largest request head of the opening handshake. Status 431. Default 16 KiB.
    pub header_bytes_max: usize,
    /// Most header fields of the opening handshake. Status 431. Default 100.
    pub headers_max: usize,
    /// From accept to the finished opening handshake, TLS included. Status 408, or 503 if the application deferred its
    /// answer and gave none. Default 10 s.
    pub handshake_timeout: Duration,
    /// Silence after which a peer is given up, pongs count as a sign of life. The peer of a stream is silent when it
    /// takes nothing of what waits for it. Default 120 s; zero means never.
    pub idle_timeout: Duration,
    /// Silence after which a ping is sent; streams get a comment as often. Default 30 s; zero means never.
    pub ping_interval: Duration,
    /// From our Close to the end of the connection. Default 5 s.
    pub close_timeout: Duration,
    /// Longest life of a connection; it ends with 1001, up to a tenth earlier (jitter). Default `None`.
    pub lifetime_max: Option<Duration>,
    /// Whether and how permessage-deflate is negotiated (RFC 7692).
    pub deflate: DeflateMode,
}

/// How permessage-deflate is offered to peers (RFC 7692 §7.1.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeflateMode {
    /// Never negotiated.
    Off,
    /// Negotiated without context takeover in either direction: no memory per connection.
    #[default]
    Shared,
    /// Negotiated with context takeover where the peer allows it: better ratio, 418 KiB per connection that
    /// has sent and received a compressed message.
    Dedicated,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes_max: 16 << 20,
            frame_bytes_max: 16 << 20,
            fragments_max: 131_072,
            queued_bytes_max: 64 << 20,
            queued_bytes_pause: 1 << 20,
            header_bytes_max: 16 << 10,
            headers_max: 100,
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(120),
            ping_interval: Duration::from_secs(30),
            close_timeout: Duration::from_secs(5),
            lifetime_max: None,
            deflate: DeflateMode::Shared,
        }
    }
}

impl Limits {
    /// When a connection that opens now has lived long enough: up to a tenth early, so that those that came together do
    /// not leave together.
    pub(super) fn end_of_life(&self, random: &mut Random, now: Tick) -> Tick {
        self.lifetime_max.map_or(Tick::NEVER, |lifetime| {
            let jitter_ms = random.below(lifetime.as_millis() as u64 / 10 + 1);
            now.after(lifetime - Duration::from_millis(jitter_ms))
        })
    }
}

/// The times of [`Limits`], counted in ticks once so that no message pays for the conversion.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spans {
    pub(super) handshake: Span,
    pub(super) idle: Span,
    pub(super) ping: Span,
    pub(super) close: Span,
}

impl Spans {
    pub(super) fn of(limits: &Limits) -> Self {
        Self {
            handshake: Span::of(limits.handshake_timeout),
            idle: Span::of_unless_zero(limits.idle_timeout),
            ping: Span::of_unless_zero(limits.ping_interval),
            close: Span::of(limits.close_timeout),
        }
    }
}
