//! What does one frame header cost, for each form of the length, and does judging it cost more than reading it?
#![allow(missing_docs)]

use std::hint::black_box;

use corewire::protocol::frame::{decode_header, encode_header};
use corewire::protocol::{FrameHeader, FrameRules, HEADER_LEN_MAX, Opcode, Role};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const RULES: FrameRules = FrameRules { role: Role::Server, rsv1_allowed: true, frame_bytes_max: 16 << 20 };
const HEADERS: u64 = 1000;

/// A thousand headers in a row, each with room for a whole one behind it.
fn headers(payload_len: u64) -> Vec<u8> {
    let header = FrameHeader { fin: true, rsv1: false, opcode: Opcode::Text, mask: Some([1, 2, 3, 4]), payload_len };
    let mut wire = Vec::new();
    for _ in 0..HEADERS {
        let mut out = [0; HEADER_LEN_MAX];
        let len = encode_header(&header, &mut out);
        wire.extend_from_slice(&out[..len]);
    }
    wire
}

/// Reads a header without a single check: the least that decoding could cost.
fn decode_unchecked(bytes: &[u8]) -> Option<(u64, [u8; 4], usize)> {
    let (len, at) = match bytes.get(1)? & 0x7f {
        126 => (u64::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?)), 4),
        127 => (u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?), 10),
        len => (u64::from(len), 2),
    };
    Some((len, *bytes.get(at..)?.first_chunk()?, at + 4))
}

fn bench(criterion: &mut Criterion) {
    for (name, payload_len) in [("7-bit", 64), ("16-bit", 1024), ("64-bit", 1 << 20)] {
        let wire = headers(payload_len);
        let mut group = criterion.benchmark_group(format!("frame_decode/{name}"));
        group.throughput(Throughput::Elements(HEADERS));
        group.bench_function("decode_header", |bencher| {
            bencher.iter(|| {
                let mut rest = black_box(&wire[..]);
                while let Ok(Some((header, len))) = decode_header(rest, black_box(&RULES)) {
                    black_box(header);
                    rest = &rest[len..];
                }
            });
        });
        group.bench_function("unchecked", |bencher| {
            bencher.iter(|| {
                let mut rest = black_box(&wire[..]);
                while let Some((payload_len, key, len)) = decode_unchecked(rest) {
                    black_box((payload_len, key));
                    rest = &rest[len..];
                }
            });
        });
        group.finish();
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
