//! What does it cost to encode a publication and to queue it to 10,000 subscribers of one core?
//!
//! From the publisher's frame in the read buffer to 10,000 queues and their place on the list for the end of the turn;
//! the writes are not in it. The floor clones a reference to the payload into 10,000 slots that lie side by side.
//! `cargo bench -p corewire --bench fan_out`
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

#[path = "support/shard.rs"]
mod shard;

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use corewire::protocol::frame::encode_header;
use corewire::protocol::{FrameHeader, HEADER_LEN_MAX, Opcode, mask};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const KEY: [u8; 4] = [1, 2, 3, 4];
const DEFLATE: &str = "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover\r\n";

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fan_out");
    let subscribers: u32 = if shard::is_measured() { 10_000 } else { 100 };
    group.throughput(Throughput::Elements(subscribers.into()));
    for size in [128, 1 << 10, 16 << 10] {
        let payload = "{\"json\":1,\"is\":\"text\"}".repeat(size / 22 + 1).into_bytes();
        let payload = Bytes::copy_from_slice(&payload[..size]);
        let mut slots = vec![None; subscribers as usize];
        group.bench_function(BenchmarkId::new("floor", size), |bencher| {
            bencher.iter(|| {
                slots.iter_mut().for_each(|slot| *slot = Some(payload.clone()));
                black_box(&slots);
            });
        });
        let wire = frame(&payload);
        for (name, headers) in [("plain", ""), ("deflate", DEFLATE)] {
            let mut state = shard::shard_of(subscribers, headers);
            group.bench_function(BenchmarkId::new(name, size), |bencher| {
                bencher.iter_custom(|rounds| {
                    let mut took = Duration::ZERO;
                    for _ in 0..rounds {
                        let mut read = wire.clone();
                        let begin = Instant::now();
                        state.handle_input(0, black_box(&mut read));
                        took += begin.elapsed();
                        let taken = shard::drain(&mut state);
                        assert!(taken > subscribers as usize * 10, "everybody got something: {taken} bytes");
                    }
                    took
                });
            });
        }
    }
    group.finish();
}

/// A client's text frame, masked.
fn frame(payload: &[u8]) -> Vec<u8> {
    let header = FrameHeader {
        fin: true,
        rsv1: false,
        opcode: Opcode::Text,
        mask: Some(KEY),
        payload_len: payload.len() as u64,
    };
    let mut bytes = [0; HEADER_LEN_MAX];
    let header_len = encode_header(&header, &mut bytes);
    let mut wire = bytes[..header_len].to_vec();
    wire.extend_from_slice(payload);
    mask::apply(&mut wire[header_len..], KEY);
    wire
}

criterion_group!(benches, bench);
criterion_main!(benches);
