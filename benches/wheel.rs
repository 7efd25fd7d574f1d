//! What do arming, moving and expiring a deadline cost in a timing wheel that holds a million of them?
//!
//! `move` gives a random entry another deadline; `expire` hands out what a tick has and arms it again 30 s later. Both
//! per entry. The floor writes one word of a random node in an array of as many.
//! `cargo bench -p corewire --bench wheel`
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

use std::hint::black_box;

use corewire::connection::{Random, Tick};
use corewire::shard::{Node, Nodes, Wheel};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// 30 s.
const SPAN_TICKS: u32 = 938;

struct Entries(Vec<Node>);

impl Nodes for Entries {
    fn node(&mut self, index: u32) -> &mut Node {
        &mut self.0[index as usize]
    }
}

/// A wheel at tick zero, with everybody due within 30 s.
fn full(count: u32, random: &mut Random) -> (Wheel, Entries) {
    let (mut wheel, mut entries) = (Wheel::new(Tick(0)), Entries(vec![Node::default(); count as usize]));
    for index in 0..count {
        wheel.arm(&mut entries, index, Tick(1 + random.below(SPAN_TICKS.into()) as u32));
    }
    (wheel, entries)
}

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wheel");
    let is_measured = std::env::args().any(|arg| arg == "--bench");
    let counts: &[u32] = if is_measured { &[1_000, 1_000_000] } else { &[1_000] };
    for &count in counts {
        let mut random = Random::new(7);
        group.throughput(Throughput::Elements(1));
        let mut words = vec![[0u32; 3]; count as usize];
        group.bench_function(BenchmarkId::new("floor", count), |bencher| {
            bencher.iter(|| words[black_box(random.below(count.into())) as usize][0] += 1);
        });
        let (mut wheel, mut entries) = full(count, &mut random);
        group.bench_function(BenchmarkId::new("move", count), |bencher| {
            bencher.iter(|| {
                let index = random.below(count.into()) as u32;
                let due = Tick(1 + random.below(SPAN_TICKS.into()) as u32);
                wheel.arm(&mut entries, black_box(index), black_box(due));
            });
        });
        assert_eq!(wheel.armed_count(), count as usize);
        let (mut wheel, mut entries) = full(count, &mut random);
        let (mut now, mut due) = (0, Vec::new());
        group.throughput(Throughput::Elements(u64::from(count / SPAN_TICKS).max(1)));
        group.bench_function(BenchmarkId::new("expire_tick", count), |bencher| {
            bencher.iter(|| {
                now += 1;
                wheel.expire(&mut entries, Tick(now), &mut due);
                for index in due.drain(..) {
                    wheel.arm(&mut entries, index, Tick(now + SPAN_TICKS));
                }
            });
        });
        assert_eq!(wheel.armed_count(), count as usize, "none was lost");
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
