//! Large messages: each is received straight into a buffer of its own, and buffers are used again.
//!
//! A fresh buffer for each message would be copied as it grows, and no cache would hold it. So a buffer comes back when
//! what it held was sent, unless somebody else still has it, and the next message gets it.

use bytes::{Buf, Bytes, BytesMut};

/// The buffer of a large message that is arriving.
///
/// Invariant: `filled <= bytes.len()`.
pub(super) struct LargeBuffer {
    bytes: BytesMut,
    /// Bytes that have arrived; what is behind them is room.
    filled: usize,
}

impl LargeBuffer {
    /// With what has `arrived` of a message, and room for some or all of the `left` bytes that are to come.
    pub(super) fn begin(arrived: &[u8], left: usize, buffers: &mut LargeBuffers) -> Self {
        let mut bytes = buffers.take(arrived.len(), left);
        bytes[..arrived.len()].copy_from_slice(arrived);
        Self { bytes, filled: arrived.len() }
    }

    /// Bytes that have arrived.
    pub(super) fn len(&self) -> usize {
        self.filled
    }

    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Where the next of `left` bytes go that are to come: as many as should be read at once, and never more.
    pub(super) fn room(&mut self, left: usize, buffers: &mut LargeBuffers) -> &mut [u8] {
        if self.filled == self.bytes.len() {
            // Another fragment may find room in what the one before did not need.
            if self.bytes.capacity() - self.filled >= left {
                self.bytes.resize(self.filled + left, 0);
            } else {
                *self = Self::begin(&self.bytes, left, buffers);
            }
        }
        let room = &mut self.bytes[self.filled..];
        let len = room.len().min(left).min(READ_BYTES_MAX);
        &mut room[..len]
    }

    /// The first `len` bytes of [`LargeBuffer::room`] have arrived. Answers them.
    pub(super) fn received(&mut self, len: usize) -> &mut [u8] {
        let from = self.filled;
        self.filled += len;
        &mut self.bytes[from..self.filled]
    }

    /// Appends a copy of `payload`.
    pub(super) fn push(&mut self, payload: &[u8]) {
        let end = self.filled + payload.len();
        if end <= self.bytes.len() {
            self.bytes[self.filled..end].copy_from_slice(payload);
        } else {
            self.bytes.truncate(self.filled);
            self.bytes.extend_from_slice(payload);
        }
        self.filled = end;
    }

    /// What has arrived.
    pub(super) fn into_bytes(mut self) -> Bytes {
        self.bytes.truncate(self.filled);
        self.bytes.freeze()
    }
}

/// Buffers of large messages that are not in use. One per core.
#[derive(Default)]
pub(super) struct LargeBuffers {
    /// The one that was used last stands last: the cache may still have it.
    free: Vec<BytesMut>,
    free_bytes: usize,
    /// Whether one was kept since this was last asked.
    kept: bool,
}

impl LargeBuffers {
    /// A buffer that begins with `arrived` bytes: for `left` more if one is kept, else with room in proportion to what
    /// has arrived, so that an announcement alone costs nothing.
    fn take(&mut self, arrived: usize, left: usize) -> BytesMut {
        let wanted = arrived.saturating_add(left);
        // Not much more than that: a message that waits to be sent is counted by its length.
        let fits = wanted..=wanted.saturating_mul(2);
        match self.free.iter().rposition(|buffer| fits.contains(&buffer.capacity())) {
            Some(place) => {
                let mut buffer = self.free.remove(place);
                self.free_bytes -= buffer.capacity();
                // Only what the message before did not reach is cleared.
                buffer.resize(wanted, 0);
                buffer
            }
            // And by so much that a message in many fragments is not copied for each of them.
            None => fresh(wanted.min(arrived * GROWTH).max(arrived + arrived / 2)),
        }
    }

    /// Keeps the buffer of what was sent, if it is one of these and nobody else has it.
    pub(super) fn reclaim(&mut self, sent: Bytes) {
        let Ok(buffer) = sent.try_into_mut() else { return };
        if begins_in_mid_page(&buffer) && buffer.capacity() <= FREE_BYTES_MAX {
            self.kept = true;
            self.free_bytes += buffer.capacity();
            self.free.push(buffer);
            // Those that were not used for longest leave, so that it follows what sizes are sent.
            let mut surplus = 0;
            while self.free_bytes > FREE_BYTES_MAX {
                self.free_bytes -= self.free[surplus].capacity();
                surplus += 1;
            }
            self.free.drain(..surplus);
        }
    }

    /// Whether a buffer was kept since the last call.
    pub(super) fn take_note(&mut self) -> bool {
        std::mem::take(&mut self.kept)
    }

    /// Bytes of the buffers that are not in use.
    pub(super) fn free_bytes(&self) -> usize {
        self.free_bytes
    }

    /// Frees what is not in use.
    pub(super) fn shrink(&mut self) {
        *self = Self::default();
    }
}

/// A buffer of `len` zeros that begins in the middle of a page.
fn fresh(len: usize) -> BytesMut {
    let mut buffer = BytesMut::zeroed(len + 2 * PAGE_BYTES);
    // Where an interpreter cannot tell an address, this is no number at all.
    let to_page = buffer.as_ptr().align_offset(PAGE_BYTES).min(PAGE_BYTES);
    buffer.advance(to_page + MID_PAGE);
    buffer.truncate(len);
    buffer
}

fn begins_in_mid_page(buffer: &BytesMut) -> bool {
    buffer.as_ptr().addr() % PAGE_BYTES == MID_PAGE
}

/// From this length on, what was sent may have been a large message.
pub(super) const LARGE_BYTES_MIN: usize = 64 << 10;

/// Read at once, at most: that much is unmasked before it has left the cache.
const READ_BYTES_MAX: usize = 256 << 10;

/// How much room a fresh buffer has, in multiples of what has arrived.
const GROWTH: usize = 4;

/// What buffers that are not in use may hold.
const FREE_BYTES_MAX: usize = 8 << 20;

const PAGE_BYTES: usize = 4096;

/// Where in a page a message begins. The kernel lays what is sent side by side from the beginning of a page on, behind
/// the frame's header. If the message began at a page's beginning too, each byte would be copied to an address that is
/// 1 to 15 bytes further in its page than the one it comes from, and that takes the copy (`rep movsb` on AMD's Zen 4)
/// fourteen times as long: 300 µs instead of 21 for 1 MiB. The middle is as far from that as can be, on the way in as
/// well as on the way out.
const MID_PAGE: usize = PAGE_BYTES / 2;
