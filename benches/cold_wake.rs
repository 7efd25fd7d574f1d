//! What does a lone message on a cold connection cost inside a core, and how much of it is finding the record?
//!
//! A ping comes on one connection among many, at random: the slab is touched, the pong is queued and taken, the
//! deadline looked at. System calls are not in it. The floor changes as many bytes as a record has, at a random place
//! of an array as large as the records.
//! `cargo bench -p corewire --bench cold_wake`
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

#[path = "support/shard.rs"]
mod shard;

use std::hint::black_box;
use std::time::Duration;

use corewire::connection::{Random, Span, Tick};
use corewire::shard::{Load, Thermostat};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const PING: [u8; 6] = [0x89, 0x80, 1, 2, 3, 4];
/// As `shard/slab.rs` asserts it.
const RECORD_BYTES: usize = 72;

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("cold_wake");
    group.throughput(Throughput::Elements(1));
    let thermostat = Thermostat {
        promote_streak: 8,
        streak_gap: Span::of(Duration::from_millis(50)),
        busy_reads: 4,
        quiet_reads: 2,
    };
    let sizes: &[u32] = if shard::is_measured() { &[1_000, 100_000, 1_000_000] } else { &[1_000] };
    for &connections in sizes {
        let mut random = Random::new(7);
        let mut records = vec![[0u8; RECORD_BYTES]; connections as usize];
        group.bench_function(BenchmarkId::new("floor", connections), |bencher| {
            bencher.iter(|| {
                let record = &mut records[random.below(connections.into()) as usize];
                record.iter_mut().for_each(|byte| *byte = byte.wrapping_add(1));
                black_box(record);
            });
        });
        let mut state = shard::shard_of(connections, "");
        let mut tick = 0;
        let load = Load::default();
        group.bench_function(BenchmarkId::new("ping", connections), |bencher| {
            bencher.iter(|| {
                tick += 1;
                // Half an hour passes in a circle: far enough apart for no streak, and no deadline is asked for.
                state.set_now(Tick(1 + tick % 50_000));
                let index = random.below(connections.into()) as u32;
                let mut read = black_box(PING);
                state.handle_input(index, &mut read);
                let promote = state.note_cold_read(index, PING.len(), load, &thermostat);
                (shard::drain(&mut state), promote)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
