//! From which size does compressing a message pay, at which level, and what does forgetting the context cost?
// The compressed sizes are half of the answer, and no benchmark prints them.
#![allow(missing_docs, clippy::print_stderr)]

use std::hint::black_box;

use corewire::protocol::deflate::{Deflater, Inflater};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// Messages as back ends send them: JSON whose keys repeat and whose values do not.
fn json(len: usize) -> Vec<u8> {
    let mut text = String::from("{\"event\":\"trade\",\"channel\":\"prices\",\"data\":[");
    let mut state = 1u32;
    while text.len() < len {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        text += &format!("{{\"id\":{},\"price\":{}.{:02},\"side\":\"buy\"}},", state >> 8, state >> 20, state % 100);
    }
    text.truncate(len);
    text.into_bytes()
}

fn compressed(payload: &[u8], level: u8) -> Vec<u8> {
    let mut out = Vec::new();
    Deflater::new(15, level).deflate(payload, &mut out, false);
    out
}

fn bench(criterion: &mut Criterion) {
    let sizes = [32, 64, 96, 128, 256, 1 << 10, 16 << 10, 256 << 10];
    for len in sizes {
        let payload = json(len);
        let lens = [1, 2, 3, 4, 6].map(|level| compressed(&payload, level).len());
        eprintln!("{len} bytes of JSON at levels 1, 2, 3, 4, 6: {lens:?}");
    }
    for (name, keep_context) in [("shared", false), ("dedicated", true)] {
        let mut group = criterion.benchmark_group(format!("deflate/{name}"));
        for len in sizes {
            let payload = json(len);
            group.throughput(Throughput::Bytes(len as u64));
            for level in [1, 2, 3, 4, 6] {
                let (mut deflater, mut out) = (Deflater::new(15, level), Vec::new());
                group.bench_with_input(
                    BenchmarkId::new(format!("level {level}"), len),
                    &payload,
                    |bencher, payload| {
                        bencher.iter(|| {
                            out.clear();
                            deflater.deflate(black_box(payload), &mut out, keep_context);
                        });
                    },
                );
            }
        }
        group.finish();
    }
    let mut group = criterion.benchmark_group("inflate/shared");
    for len in sizes {
        let compressed = compressed(&json(len), 6);
        let (mut inflater, mut out) = (Inflater::new(15), Vec::new());
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_with_input(BenchmarkId::from_parameter(len), &compressed, |bencher, compressed| {
            bencher.iter(|| {
                out.clear();
                inflater.inflate(black_box(compressed), &mut out, len, false)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
