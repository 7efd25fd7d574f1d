//! Any bytes as compressed messages stay within the limit, and any messages come back as they were.
#![no_main]

use corewire::protocol::deflate::{Deflater, InflateError, Inflater};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [setting, window, data @ ..] = data else {
        return;
    };
    let keep_context = setting & 1 != 0;
    let level = (setting >> 1) % 10;
    let window_bits = 8 + window % 8;
    as_compressed(data, keep_context);
    as_messages(data, level, window_bits, keep_context);
});

/// Messages are separated by 0xFE, which compressed data may well contain: then there are simply more of them.
fn messages(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    data.split(|&byte| byte == 0xFE)
}

fn as_compressed(data: &[u8], keep_context: bool) {
    const MESSAGE_BYTES_MAX: usize = 10_000;
    let mut inflater = Inflater::new(15);
    let mut out = Vec::new();
    for compressed in messages(data) {
        out.clear();
        match inflater.inflate(compressed, &mut out, MESSAGE_BYTES_MAX, keep_context) {
            Ok(()) => assert!(out.len() <= MESSAGE_BYTES_MAX),
            Err(InflateError::TooBig | InflateError::Corrupt) => assert!(out.is_empty()),
        }
        assert!(out.capacity() <= MESSAGE_BYTES_MAX + 1);
    }
}

fn as_messages(data: &[u8], level: u8, window_bits: u8, keep_context: bool) {
    let (mut deflater, mut inflater) = (
        Deflater::new(window_bits, level),
        Inflater::new(window_bits),
    );
    let (mut compressed, mut inflated) = (Vec::new(), Vec::new());
    for message in messages(data) {
        compressed.clear();
        inflated.clear();
        deflater.deflate(message, &mut compressed, keep_context);
        let result = inflater.inflate(&compressed, &mut inflated, message.len(), keep_context);
        assert_eq!((result, &inflated[..]), (Ok(()), message));
    }
}
