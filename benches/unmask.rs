//! How close does unmasking in place come to copying the same bytes, per size and alignment?
#![allow(missing_docs)]

use std::hint::black_box;

use corewire::protocol::mask;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
/// A payload begins behind a header of 6, 8 or 14 bytes: never aligned.
const OFFSET: usize = 6;

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("unmask");
    for len in [8, 16, 32, 33, 48, 64, 96, 128, 256, 1 << 10, 16 << 10, 256 << 10, 4 << 20] {
        let mut buffer = vec![0x5a; OFFSET + len];
        let mut other = vec![0xa5; OFFSET + len];
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_with_input(BenchmarkId::new("apply", len), &len, |bencher, _| {
            bencher.iter(|| mask::apply(black_box(&mut buffer[OFFSET..]), black_box(KEY)));
        });
        group.bench_with_input(BenchmarkId::new("memcpy", len), &len, |bencher, _| {
            bencher.iter(|| black_box(&mut other[OFFSET..]).copy_from_slice(black_box(&buffer[OFFSET..])));
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
