//! What does proving a text message UTF-8 cost next to std, per size, whole and in pieces, ASCII and not?
#![allow(missing_docs)]

use std::hint::black_box;

use corewire::protocol::utf8::{Utf8Stream, validate};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

fn text(alphabet: &str, len: usize) -> Vec<u8> {
    let mut text = alphabet.repeat(len / alphabet.len() + 1);
    text.truncate(text.floor_char_boundary(len));
    text.into_bytes()
}

fn in_one_piece(text: &[u8]) -> bool {
    let mut stream = Utf8Stream::default();
    stream.push(text).is_ok() && stream.finish().is_ok()
}

fn bench(criterion: &mut Criterion) {
    for (name, alphabet) in
        [("ascii", "{\"type\":\"tick\",\"price\":101.25}"), ("mixed", "naïve Ωmega 日本語 😀 text ")]
    {
        let mut group = criterion.benchmark_group(format!("utf8/{name}"));
        for len in [16, 32, 64, 96, 128, 192, 256, 1 << 10, 16 << 10, 256 << 10] {
            let text = text(alphabet, len);
            group.throughput(Throughput::Bytes(text.len() as u64));
            group.bench_with_input(BenchmarkId::new("validate", len), &text, |bencher, text| {
                bencher.iter(|| validate(black_box(text)).is_ok());
            });
            group.bench_with_input(BenchmarkId::new("stream", len), &text, |bencher, text| {
                bencher.iter(|| in_one_piece(black_box(text)));
            });
            group.bench_with_input(BenchmarkId::new("std", len), &text, |bencher, text| {
                bencher.iter(|| std::str::from_utf8(black_box(text)).is_ok());
            });
        }
        group.finish();
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
