//! What all connections of one core share: limits, and buffers and codecs that one of them uses at a time.

use super::extra::{DEFLATER_BYTES, Extra, INFLATER_BYTES};
use super::large::LargeBuffers;
use super::limits::{DeflateMode, Limits, Spans};
use super::outbox::Outbox;
use super::random::Random;
use crate::protocol::deflate::{DeflateOptions, Deflater, Inflater};

/// Limits, pools and the codecs without memory, one per core.
pub struct Workspace {
    pub(super) limits: Limits,
    pub(super) spans: Spans,
    /// Jitter and masking keys.
    pub random: Random,
    /// Compressed bytes of the message being sent.
    pub(super) deflated: Vec<u8>,
    #[expect(clippy::vec_box, reason = "the boxes move between here and the connections")]
    outboxes: Vec<Box<Outbox>>,
    /// Memory that the pooled outboxes hold, boxes not included.
    outboxes_heap_bytes: usize,
    #[expect(clippy::vec_box, reason = "the boxes move between here and the connections")]
    extras: Vec<Box<Extra>>,
    /// By window bits, from 9 to 15: a compressor's window must not be larger than agreed (RFC 7692 §7.1.2.1).
    deflaters: [Option<Box<Deflater>>; 7],
    inflater: Option<Box<Inflater>>,
    /// For large messages.
    pub(super) large: LargeBuffers,
}

impl Workspace {
    /// `seed` feeds jitter and masking keys; take it from the operating system.
    pub fn new(limits: Limits, seed: u64) -> Self {
        Self {
            spans: Spans::of(&limits),
            limits,
            random: Random::new(seed),
            deflated: Vec::new(),
            outboxes: Vec::new(),
            outboxes_heap_bytes: 0,
            extras: Vec::new(),
            deflaters: Default::default(),
            inflater: None,
            large: LargeBuffers::default(),
        }
    }

    /// What each peer may use.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What the server answers to an offer of permessage-deflate; `None` if it never agrees.
    pub fn deflate_options(&self) -> Option<DeflateOptions> {
        let no_context_takeover = match self.limits.deflate {
            DeflateMode::Off => return None,
            DeflateMode::Shared => true,
            DeflateMode::Dedicated => false,
        };
        Some(DeflateOptions {
            server_no_context_takeover: no_context_takeover,
            client_no_context_takeover: no_context_takeover,
            server_max_window_bits: WINDOW_BITS_MAX,
            client_max_window_bits: WINDOW_BITS_MAX,
        })
    }

    /// Bytes that pools hold on to, for the metrics.
    pub fn pooled_bytes(&self) -> usize {
        let outboxes = self.outboxes.len() * size_of::<Outbox>() + self.outboxes_heap_bytes;
        outboxes + self.extras.len() * size_of::<Extra>() + self.deflated.capacity() + self.large.free_bytes()
    }

    /// Whether the buffer of a large message was kept for the next one since the last call.
    pub fn take_kept_large(&mut self) -> bool {
        self.large.take_note()
    }

    /// Bytes that the codecs which connections share hold, for the metrics.
    pub fn codec_bytes(&self) -> usize {
        let deflaters = self.deflaters.iter().flatten().count() * DEFLATER_BYTES;
        deflaters + self.inflater.as_ref().map_or(0, |_| INFLATER_BYTES)
    }

    /// Frees what the pools hold. The shared codecs stay: there are few, and making one costs more than a message.
    pub fn shrink(&mut self) {
        self.outboxes = Vec::new();
        self.outboxes_heap_bytes = 0;
        self.extras = Vec::new();
        self.deflated = Vec::new();
        self.large.shrink();
    }

    pub(super) fn take_outbox(&mut self) -> Box<Outbox> {
        let Some(outbox) = self.outboxes.pop() else { return Box::default() };
        self.outboxes_heap_bytes -= outbox.heap_bytes();
        outbox
    }

    pub(super) fn give_outbox(&mut self, mut outbox: Box<Outbox>) {
        outbox.clear();
        self.reclaim(&mut outbox);
        let heap_bytes = self.outboxes_heap_bytes + outbox.heap_bytes();
        if self.outboxes.len() < POOLED_MAX && heap_bytes <= POOLED_BYTES_MAX {
            self.outboxes_heap_bytes = heap_bytes;
            self.outboxes.push(outbox);
        }
    }

    /// Takes the buffer of a large message that `outbox` has sent.
    pub(super) fn reclaim(&mut self, outbox: &mut Outbox) {
        if let Some(sent) = outbox.take_sent() {
            self.large.reclaim(sent);
        }
    }

    pub(super) fn take_extra(&mut self) -> Box<Extra> {
        self.extras.pop().unwrap_or_default()
    }

    pub(super) fn give_extra(&mut self, extra: Box<Extra>) {
        if self.extras.len() < POOLED_MAX {
            self.extras.push(extra);
        }
    }

    /// The compressor that all connections without context takeover share.
    pub(super) fn shared_deflater(&mut self, window_bits: u8) -> &mut Deflater {
        let bits = window_bits.clamp(WINDOW_BITS_MIN, WINDOW_BITS_MAX);
        let slot = &mut self.deflaters[usize::from(bits - WINDOW_BITS_MIN)];
        slot.get_or_insert_with(|| Box::new(Deflater::new(bits, DEFLATE_LEVEL)))
    }

    /// The decompressor that all connections without context takeover share. The largest window reads every smaller.
    pub(super) fn shared_inflater(&mut self) -> &mut Inflater {
        self.inflater.get_or_insert_with(|| Box::new(Inflater::new(WINDOW_BITS_MAX)))
    }
}

/// Smallest window that zlib can compress raw (RFC 7692 §7.1.2 allows 8, zlib does not).
pub(super) const WINDOW_BITS_MIN: u8 = 9;
/// Largest window of deflate.
pub(super) const WINDOW_BITS_MAX: u8 = 15;
/// zlib's level: the fastest that still finds matches. Messages are small and many.
pub(super) const DEFLATE_LEVEL: u8 = 1;
/// Boxes kept for reuse. More are freed: a burst must not hold memory for ever.
const POOLED_MAX: usize = 1024;
/// Memory that the boxes kept for reuse may hold on to.
const POOLED_BYTES_MAX: usize = 4 << 20;
