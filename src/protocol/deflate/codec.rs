//! Messages through DEFLATE and back (RFC 7692 §7.2), bounded while they inflate.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::negotiate::{COMPRESS_WINDOW_BITS_MIN, WINDOW_BITS_MAX};

/// Compresses messages.
///
/// Without context takeover one serves every connection of a core. With it a connection has its own, which then holds
/// 371 KiB with a window of 15 bits, 275 KiB with 13, 251 KiB with 11 and 245 KiB with 9: most of it is the hash table
/// of zlib-rs, whose size is fixed (counted in `tests/deflate_memory.rs`).
pub struct Deflater {
    stream: Compress,
}

/// Decompresses messages.
///
/// Without context takeover one serves every connection of a core. With it a connection has its own, which then holds
/// 47 KiB whatever the window (counted in `tests/deflate_memory.rs`).
///
/// A final block (RFC 1951 §3.2.3) inside a message ends a DEFLATE stream, and with it the context: what follows may
/// not refer to what came before it. A sender that makes such blocks starts afresh behind them, as zlib does.
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
        Self { stream: Compress::new_with_window_bits(level, false, window_bits) }
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
        debug_assert!(out.ends_with(&TAIL), "a sync flush ends in an empty stored block (RFC 1951 §3.2.4)");
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
        debug_assert!((8..=WINDOW_BITS_MAX).contains(&window_bits), "RFC 7692 §7.1.2");
        Self { stream: Decompress::new(false) }
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
        if compressed.is_empty() {
            // No DEFLATE: an empty message has a byte (RFC 7692 §7.2.3.6). Some peers leave that out as well, and with
            // the tail alone the stream would stop within a block, where the next message cannot be read.
            return Ok(());
        }
        match self.feed(compressed, out, out_len_max)? {
            Fed::Open => {
                let len = out.len();
                // RFC 7692 §7.2.2: the tail that the sender left out. It ends an empty block: where it comes out as
                // content, the message was cut within another one.
                self.feed(&TAIL, out, out_len_max)?;
                if out.len() == len { Ok(()) } else { Err(InflateError::Corrupt) }
            }
            // The sender left out the empty block that should follow a final one (RFC 7692 §7.2.3.4). It would have
            // said nothing, and its end without its beginning would be nonsense.
            Fed::Ended => Ok(()),
        }
    }

    fn feed(&mut self, mut input: &[u8], out: &mut Vec<u8>, out_len_max: usize) -> Result<Fed, InflateError> {
        let mut final_blocks = 0;
        loop {
            reserve_step(out, out_len_max);
            let (taken_before, len_before) = (self.stream.total_in(), out.len());
            let status =
                self.stream.decompress_vec(input, out, FlushDecompress::Sync).map_err(|_| InflateError::Corrupt)?;
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
/// JSON of 64 bytes comes out at 60, of 128 at 100, of 256 at 135, and each costs the compressor some microseconds, as
/// much as sending it does: the context of a shared compressor is cleared behind every message, and that is most of
/// it (`benches/deflate.rs`). So a message is compressed from where a good part of it is saved.
#[inline]
pub const fn worth_deflating(len: usize) -> bool {
    len >= DEFLATE_LEN_MIN
}

const DEFLATE_LEN_MIN: usize = 256;
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NO_LIMIT: usize = usize::MAX;
    const LEVEL: u8 = 6;

    fn inflate_one(compressed: &[u8], message_bytes_max: usize) -> Result<Vec<u8>, InflateError> {
        let mut out = Vec::new();
        Inflater::new(15).inflate(compressed, &mut out, message_bytes_max, false)?;
        Ok(out)
    }

    fn deflate_one(payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Deflater::new(15, LEVEL).deflate(payload, &mut out, false);
        out
    }

    #[test]
    fn the_examples_of_rfc_7692_section_7_2_3() {
        let cases: &[(&str, &[u8], &[u8])] = &[
            ("§7.2.3.1, one block", b"\xf2\x48\xcd\xc9\xc9\x07\x00", b"Hello"),
            ("§7.2.3.3, stored", b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", b"Hello"),
            ("§7.2.3.4, a final block", b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00", b"Hello"),
            ("§7.2.3.5, two blocks", b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", b"Hello"),
            ("§7.2.3.6, empty", b"\x00", b""),
            // Not in the RFC: what else real peers send.
            ("nothing at all", b"", b""),
            ("a final block without the empty one behind it", b"\xf3\x48\xcd\xc9\xc9\x07\x00", b"Hello"),
            ("two final blocks", b"\xf3\x48\xcd\xc9\xc9\x07\x00\xf3\x48\xcd\xc9\xc9\x07\x00\x00", b"HelloHello"),
            ("with its tail left on", b"\xf2\x48\xcd\xc9\xc9\x07\x00\x00\x00\xff\xff", b"Hello"),
        ];
        for &(name, compressed, want) in cases {
            assert_eq!(inflate_one(compressed, NO_LIMIT).as_deref(), Ok(want), "{name}");
        }
        assert_eq!(deflate_one(b"Hello"), b"\xf2\x48\xcd\xc9\xc9\x07\x00");
        assert_eq!(deflate_one(b""), b"\x00");
    }

    #[test]
    fn context_takeover_as_in_rfc_7692_section_7_2_3_2() {
        let (first, second) = (&b"\xf2\x48\xcd\xc9\xc9\x07\x00"[..], &b"\xf2\x00\x11\x00\x00"[..]);
        let (mut deflater, mut inflater) = (Deflater::new(15, LEVEL), Inflater::new(15));
        for want in [first, second] {
            let (mut compressed, mut inflated) = (Vec::new(), Vec::new());
            deflater.deflate(b"Hello", &mut compressed, true);
            assert_eq!(compressed, want);
            inflater.inflate(&compressed, &mut inflated, NO_LIMIT, true).unwrap();
            assert_eq!(inflated, b"Hello");
        }
        // Whoever has not kept the context cannot read what refers to it.
        assert_eq!(inflate_one(second, NO_LIMIT), Err(InflateError::Corrupt));
        // And whoever does not keep it does not refer to it.
        let mut compressed = Vec::new();
        deflater.reset();
        deflater.deflate(b"Hello", &mut compressed, false);
        deflater.deflate(b"Hello", &mut compressed, false);
        assert_eq!(compressed, [first, first].concat());
    }

    #[test]
    fn an_empty_message_leaves_the_context_alone() {
        let (mut deflater, mut inflater) = (Deflater::new(15, LEVEL), Inflater::new(15));
        for payload in [&b""[..], b"Hello", b"", b"Hello", b""] {
            let (mut compressed, mut inflated) = (Vec::new(), Vec::new());
            deflater.deflate(payload, &mut compressed, true);
            inflater.inflate(&compressed, &mut inflated, NO_LIMIT, true).unwrap();
            assert_eq!(inflated, payload);
        }
    }

    #[test]
    fn a_message_of_no_bytes_leaves_the_context_alone() {
        let (mut deflater, mut inflater) = (Deflater::new(15, LEVEL), Inflater::new(15));
        for payload in [&b""[..], b"Hello", b"", b"", b"Hello"] {
            let (mut compressed, mut inflated) = (Vec::new(), Vec::new());
            if !payload.is_empty() {
                deflater.deflate(payload, &mut compressed, true);
            }
            inflater.inflate(&compressed, &mut inflated, NO_LIMIT, true).unwrap();
            assert_eq!(inflated, payload);
        }
    }

    #[test]
    fn the_tail_never_becomes_content() {
        let cases: &[(&str, &[u8])] = &[
            ("a stored block of 16 bytes, 5 of them there", b"\x00\x10\x00\xef\xffHello"),
            ("a stored block of 9 bytes, 5 of them there", b"\x00\x09\x00\xf6\xffHello"),
            (
                "a stored block of 6 bytes, 5 of them there, behind a whole block",
                b"\xca\x48\xcd\xc9\xc9\x07\x00\x06\x00\xf9\xffHello",
            ),
        ];
        for &(name, compressed) in cases {
            assert_eq!(inflate_one(compressed, NO_LIMIT), Err(InflateError::Corrupt), "{name}");
        }
    }

    #[test]
    fn a_message_may_have_exactly_the_bytes_of_the_limit() {
        for len in [0, 1, 5, 1000, 1024, 1025, 100_000] {
            let payload = vec![b'x'; len];
            let compressed = deflate_one(&payload);
            assert_eq!(inflate_one(&compressed, len).as_ref(), Ok(&payload), "{len}");
            if len > 0 {
                assert_eq!(inflate_one(&compressed, len - 1), Err(InflateError::TooBig), "{len}");
            }
        }
    }

    #[test]
    fn a_bomb_costs_no_more_than_the_limit() {
        let bomb = deflate_one(&vec![0; 64 << 20]);
        assert!(bomb.len() < 100_000);
        for message_bytes_max in [0, 1, 1000, 1 << 20] {
            let mut out = b"before".to_vec();
            let got = Inflater::new(15).inflate(&bomb, &mut out, message_bytes_max, false);
            assert_eq!((got, &out[..]), (Err(InflateError::TooBig), &b"before"[..]));
            let allowed = b"before".len() + message_bytes_max + 1;
            assert!(out.capacity() <= allowed, "{} for {message_bytes_max}", out.capacity());
        }
    }

    #[test]
    fn what_is_no_deflate_is_corrupt_and_harms_nobody_after_it() {
        let cases: &[(&str, &[u8])] = &[
            ("the reserved block type", b"\x07"),
            ("a stored length that does not match", b"\x00\x05\x00\x00\x00Hello"),
            ("a distance before the beginning", b"\xf2\x00\x11\x00\x00"),
            ("code lengths that make no code", b"\x04\xff\xff\xff\xff\xff"),
            ("garbage behind a message", b"\xf2\x48\xcd\xc9\xc9\x07\x00\xff\xff\xff\xff"),
        ];
        let mut inflater = Inflater::new(15);
        for &(name, compressed) in cases {
            for keep_context in [false, true] {
                let mut out = b"before".to_vec();
                let got = inflater.inflate(compressed, &mut out, NO_LIMIT, keep_context);
                assert_eq!((got, &out[..]), (Err(InflateError::Corrupt), &b"before"[..]), "{name}");
                inflater.inflate(b"\xf2\x48\xcd\xc9\xc9\x07\x00", &mut out, NO_LIMIT, keep_context).unwrap();
                assert_eq!(out, b"beforeHello", "after {name}");
                inflater.reset();
            }
        }
    }

    #[test]
    fn as_many_final_blocks_as_the_limit() {
        // An empty final block with a fixed code (RFC 1951 §3.2.6).
        let blocks = |count: u32| b"\x03\x00".repeat(count as usize);
        assert_eq!(inflate_one(&blocks(FINAL_BLOCKS_MAX + 1), NO_LIMIT), Ok(Vec::new()));
        assert_eq!(inflate_one(&blocks(FINAL_BLOCKS_MAX + 2), NO_LIMIT), Err(InflateError::Corrupt));
    }

    #[test]
    fn every_beginning_of_a_message_ends_somehow() {
        let payload: Vec<u8> = (0..2000u32).flat_map(|i| (i * i).to_string().into_bytes()).collect();
        let compressed = deflate_one(&payload);
        for cut in 0..compressed.len() {
            // What is missing cannot be seen in DEFLATE itself: the tail is then read as data. But it stays bounded.
            match inflate_one(&compressed[..cut], payload.len()) {
                Ok(inflated) => assert!(inflated.len() <= payload.len(), "cut at {cut}"),
                Err(InflateError::Corrupt | InflateError::TooBig) => {}
            }
        }
    }

    #[test]
    fn output_of_any_size_into_room_of_any_size() {
        let noise: Vec<u8> = (0..3_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for len in [1, 100, 1023, 1024, 65_535, 65_536, noise.len()] {
            for room in [0, 1, 5, 6, 7, 100, 1 << 20] {
                let (mut compressed, mut inflated) = (Vec::with_capacity(room), Vec::with_capacity(room));
                Deflater::new(15, LEVEL).deflate(&noise[..len], &mut compressed, false);
                Inflater::new(15).inflate(&compressed, &mut inflated, len, false).unwrap();
                assert!(inflated == noise[..len], "{len} bytes into room for {room}");
            }
        }
    }

    /// A window is kept to if somebody who has no more of it can inflate what was made for it.
    #[test]
    fn a_deflater_never_looks_back_further_than_its_window() {
        let line: Vec<u8> = (0..700u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let payload = line.repeat(200);
        for window_bits in 9..=15 {
            for level in 0..=9 {
                let mut compressed = Vec::new();
                Deflater::new(window_bits, level).deflate(&payload, &mut compressed, false);
                compressed.extend_from_slice(&TAIL);
                let mut stream = Decompress::new_with_window_bits(false, window_bits);
                let mut inflated = Vec::new();
                // In small steps, so that only the window can serve what lies further back.
                while (stream.total_in() as usize) < compressed.len() || inflated.len() < payload.len() {
                    let mut step = [0; 64];
                    let (taken, made) = (stream.total_in() as usize, stream.total_out());
                    stream.decompress(&compressed[taken..], &mut step, FlushDecompress::Sync).unwrap();
                    inflated.extend_from_slice(&step[..(stream.total_out() - made) as usize]);
                }
                assert!(inflated == payload, "window of {window_bits} bits at level {level}");
            }
        }
    }

    fn payloads() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let repetitive = (any::<Vec<u8>>(), 1usize..50).prop_map(|(bytes, count)| bytes.repeat(count));
        prop::collection::vec(prop_oneof![any::<Vec<u8>>(), repetitive], 1..8)
    }

    proptest! {
        #[test]
        fn whatever_is_deflated_inflates(
            payloads in payloads(), window_bits in 8u8..=15, level in 0u8..=9, keep_context: bool,
        ) {
            let (mut deflater, mut inflater) = (Deflater::new(window_bits, level), Inflater::new(window_bits));
            for payload in payloads {
                let (mut compressed, mut inflated) = (Vec::new(), Vec::new());
                deflater.deflate(&payload, &mut compressed, keep_context);
                prop_assert_eq!(inflater.inflate(&compressed, &mut inflated, payload.len(), keep_context), Ok(()));
                prop_assert_eq!(inflated, payload);
            }
        }

        #[test]
        fn whatever_is_inflated_keeps_the_limit(noise: Vec<u8>, message_bytes_max in 0usize..10_000) {
            let mut out = Vec::new();
            let result = Inflater::new(15).inflate(&noise, &mut out, message_bytes_max, false);
            prop_assert!(out.len() <= message_bytes_max && (result.is_ok() || out.is_empty()));
        }
    }
}
