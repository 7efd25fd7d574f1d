//! Messages through DEFLATE and back (RFC 7692 §7.2), bounded while they inflate.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::negotiate::{COMPRESS_WINDOW_BITS_MIN, WINDOW_BITS_MAX};

/// Compresses messages.
///
/// Without context takeover one serves every connection of a core. With it a connection has its own.
pub struct Deflater {
    stream: Compress,
}

/// Decompresses messages.
///
/// Without context takeover one serves every connection of a core. With it a connection has its own.
pub struct Inflater {
    stream: Decompress,
}

/// Why a message cannot be inflated. The context is empty afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InflateError {
    /// More bytes than the message may have.
    #[error("the inflated message is larger than this end accepts")]
    TooBig,
    /// Not DEFLATE (RFC 1951).
    #[error("the compressed message is not a valid DEFLATE stream (RFC 7692 §7.2.2)")]
    Corrupt,
}

impl Deflater {
    /// A compressor that looks back at most 2 to the power of `window_bits` bytes, 9 to 15; `level` 0 to 9.
    pub fn new(window_bits: u8, level: u8) -> Self {
        let window_bits = window_bits.clamp(COMPRESS_WINDOW_BITS_MIN, WINDOW_BITS_MAX);
        let level = Compression::new(u32::from(level.min(LEVEL_MAX)));
        Self {
            stream: Compress::new_with_window_bits(level, false, window_bits),
        }
    }

    /// Appends the compressed message to `out`, without the `00 00 FF FF` that every message ends in
    /// (RFC 7692 §7.2.1).
    ///
    /// `keep_context`: whether later messages may refer to this one. It must be `false` for every message of a
    /// compressor that several connections share.
    pub fn deflate(&mut self, payload: &[u8], out: &mut Vec<u8>, keep_context: bool) {
        if payload.is_empty() {
            // RFC 7692 §7.2.3.6. There is nothing to compress, so there is nothing to remember either.
            out.push(EMPTY_MESSAGE);
            return;
        }
        self.compress(payload, out);
        debug_assert!(
            out.ends_with(&TAIL),
            "a sync flush ends in an empty stored block (RFC 1951 §3.2.4)"
        );
        out.truncate(out.len() - TAIL.len());
        if !keep_context {
            self.reset();
        }
    }

    /// Forgets every earlier message.
    pub fn reset(&mut self) {
        self.stream.reset();
    }

    /// Compresses all of `payload` and flushes it to a byte boundary.
    fn compress(&mut self, mut payload: &[u8], out: &mut Vec<u8>) {
        loop {
            out.reserve(compressed_chunk_len(payload.len()));
            let taken_before = self.stream.total_in();
            self.stream
                .compress_vec(payload, out, FlushCompress::Sync)
                .expect("a compressor fails only when it is used after its end, and it is never told to end");
            payload = &payload[(self.stream.total_in() - taken_before) as usize..];
            // Room left over means that the flush is complete: asked again, it would flush once more.
            if payload.is_empty() && out.len() < out.capacity() {
                return;
            }
        }
    }
}

impl Inflater {
    /// A decompressor for streams that look back at most 2 to the power of `window_bits` bytes, 8 to 15.
    ///
    /// The window kept is always the largest: zlib-rs allocates it in any case, and every stream for a smaller one
    /// inflates in it alike, however the message is cut.
    pub fn new(window_bits: u8) -> Self {
        debug_assert!(
            (8..=WINDOW_BITS_MAX).contains(&window_bits),
            "RFC 7692 §7.1.2"
        );
        Self {
            stream: Decompress::new(false),
        }
    }

    /// Appends the inflated message to `out`.
    ///
    /// `compressed` is the whole message as it was sent, without the `00 00 FF FF` (RFC 7692 §7.2.2). Never more than
    /// `message_bytes_max` bytes are appended, and room for them is made only as they appear. After an error `out` is
    /// as long as before. `keep_context`: whether the next message may refer to this one.
    pub fn inflate(
        &mut self,
        compressed: &[u8],
        out: &mut Vec<u8>,
        message_bytes_max: usize,
        keep_context: bool,
    ) -> Result<(), InflateError> {
        let start = out.len();
        let result = self.inflate_message(compressed, out, start.saturating_add(message_bytes_max));
        if result.is_err() {
            out.truncate(start);
        }
        if result.is_err() || !keep_context {
            self.reset();
        }
        result
    }

    /// Forgets every earlier message.
    pub fn reset(&mut self) {
        self.stream.reset(false);
    }

    fn inflate_message(
        &mut self,
        compressed: &[u8],
        out: &mut Vec<u8>,
        out_len_max: usize,
    ) -> Result<(), InflateError> {
        match self.feed(compressed, out, out_len_max)? {
            // RFC 7692 §7.2.2: the tail that the sender left out.
            Fed::Open => self.feed(&TAIL, out, out_len_max).map(drop),
            // The sender left out the empty block that should follow a final one (RFC 7692 §7.2.3.4). It would have
            // said nothing, and its end without its beginning would be nonsense.
            Fed::Ended => Ok(()),
        }
    }

    fn feed(
        &mut self,
        mut input: &[u8],
        out: &mut Vec<u8>,
        out_len_max: usize,
    ) -> Result<Fed, InflateError> {
        let mut final_blocks = 0;
        loop {
            reserve_step(out, out_len_max);
            let (taken_before, len_before) = (self.stream.total_in(), out.len());
            let status = self
                .stream
                .decompress_vec(input, out, FlushDecompress::Sync)
                .map_err(|_| InflateError::Corrupt)?;
            let taken = (self.stream.total_in() - taken_before) as usize;
            input = &input[taken..];
            if out.len() > out_len_max {
                return Err(InflateError::TooBig);
            }
            match status {
                Status::StreamEnd => {
                    // RFC 7692 §7.2.3.4: a final block ends a DEFLATE stream, but not the message.
                    self.stream.reset(false);
                    final_blocks += 1;
                    if input.is_empty() {
                        return Ok(Fed::Ended);
                    }
                    if final_blocks > FINAL_BLOCKS_MAX {
                        return Err(InflateError::Corrupt);
                    }
                }
                Status::Ok | Status::BufError => {
                    let has_room = out.len() < out.capacity();
                    if input.is_empty() && has_room {
                        return Ok(Fed::Open);
                    }
                    // With room and input left nothing can hold it up but a broken stream.
                    if taken == 0 && out.len() == len_before && has_room {
                        return Err(InflateError::Corrupt);
                    }
                }
            }
        }
    }
}

/// Where a stream stands when its input is used up.
enum Fed {
    /// Inside a DEFLATE stream.
    Open,
    /// Exactly at the end of one.
    Ended,
}

/// Makes room for the next step: doubling what is there, but never beyond one byte more than the limit, which is
/// what it takes to see that the limit is passed.
fn reserve_step(out: &mut Vec<u8>, out_len_max: usize) {
    if out.len() == out.capacity() {
        let wanted = out.len().clamp(STEP_BYTES_MIN, STEP_BYTES_MAX);
        let allowed = out_len_max.saturating_add(1).saturating_sub(out.len());
        out.reserve_exact(wanted.min(allowed).max(1));
    }
}

/// Room for the compressed form of `payload_len` bytes in one step, if they compress at all.
fn compressed_chunk_len(payload_len: usize) -> usize {
    // Five bytes for each stored block, and the tail.
    (payload_len + payload_len / 1024 + 32).min(STEP_BYTES_MAX)
}

/// Whether a message of that many bytes is compressed at all.
///
/// A short one comes out no shorter, and would still cost a call into the compressor.
#[inline]
pub const fn worth_deflating(len: usize) -> bool {
    len >= DEFLATE_LEN_MIN
}

const DEFLATE_LEN_MIN: usize = 64;
const LEVEL_MAX: u8 = 9;
/// What a sync flush ends in, and what the wire leaves out (RFC 7692 §7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];
/// RFC 7692 §7.2.3.6: an empty stored block without its tail.
const EMPTY_MESSAGE: u8 = 0x00;
/// Room made for output at once: enough for most messages, and nothing next to a connection's buffers.
const STEP_BYTES_MIN: usize = 1 << 10;
const STEP_BYTES_MAX: usize = 1 << 20;
/// Final blocks that one message may have. An honest sender ends a message, or a fragment of it, in one; each costs
/// a reset, so millions of empty ones in a small message would be an attack.
const FINAL_BLOCKS_MAX: u32 = 4096;
