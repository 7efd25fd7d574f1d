//! What does one echo through `Connection` cost beyond unmasking the payload and copying it out?
//!
//! Input bytes, event, reply, outbox emptied into a buffer that stands for the socket. The floor in the same run
//! unmasks the payload in place and copies it behind a header; read the ratio, not the time.
//! `cargo bench -p corewire --no-default-features --bench connection_echo`
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

use std::hint::black_box;

use corewire::connection::{Body, Connection, Event, Input, Limits, Tick, Workspace};
use corewire::protocol::deflate::Agreement;
use corewire::protocol::frame::{HEADER_LEN_MAX, encode_header, encode_server_header};
use corewire::protocol::{FrameHeader, MessageKind, Opcode, Role, mask};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const NOW: Tick = Tick(1000);
const KEY: [u8; 4] = [1, 2, 3, 4];

/// Context is kept by neither: what the server negotiates unless it is told otherwise.
const SHARED: Agreement = Agreement {
    server_no_context_takeover: true,
    client_no_context_takeover: true,
    server_max_window_bits: 15,
    client_max_window_bits: 15,
    server_window_was_offered: false,
};

/// A server's end of one connection, with its driver's buffers.
struct Echo {
    connection: Connection,
    workspace: Workspace,
    socket: Vec<u8>,
}

impl Echo {
    fn new(deflate: Option<Agreement>) -> Self {
        let mut workspace = Workspace::new(Limits::default(), 1);
        let connection = Connection::established(Role::Server, deflate, &mut workspace, NOW);
        Self { connection, workspace, socket: Vec::with_capacity(64 << 10) }
    }

    /// One read, one echo, one write.
    fn turn(&mut self, read: &mut [u8]) {
        let Self { connection, workspace, socket } = self;
        let mut input = Input::new(read);
        while let Some(event) = connection.poll_event(&mut input, workspace, NOW) {
            if let Event::Message(message) = event {
                connection.send(message.kind(), Body::Borrowed(message.bytes()), workspace).expect("room");
            }
        }
        connection.end_input(&mut input, workspace);
        socket.clear();
        while let Some(outbox) = connection.poll_transmit() {
            socket.extend_from_slice(outbox.front());
            let len = outbox.front().len();
            outbox.advance(len);
        }
        connection.transmitted(workspace);
    }
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

/// Compressed as a client compresses it.
fn compressed_frame(payload: &[u8]) -> Vec<u8> {
    let mut workspace = Workspace::new(Limits::default(), 2);
    let mut client = Connection::established(Role::Client, Some(SHARED), &mut workspace, NOW);
    client.send(MessageKind::Text, Body::Borrowed(payload), &mut workspace).expect("room");
    client.poll_transmit().expect("a frame").front().to_vec()
}

/// Unmasks behind the header and copies out behind another: the least that an echo could cost.
fn floor(read: &mut [u8], header_len: usize, socket: &mut Vec<u8>) {
    let payload = &mut read[header_len..];
    mask::apply(payload, KEY);
    let mut header = [0; HEADER_LEN_MAX];
    let len = encode_server_header(Opcode::Text, true, false, payload.len() as u64, &mut header);
    socket.clear();
    socket.extend_from_slice(&header[..len]);
    socket.extend_from_slice(payload);
}

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("connection_echo");
    for size in [16, 128, 1 << 10, 16 << 10] {
        let payload = "{\"json\":1,\"is\":\"text\"}".repeat(size / 22 + 1);
        let payload = &payload.as_bytes()[..size];
        group.throughput(Throughput::Elements(1));
        let wire = frame(payload);
        let header_len = wire.len() - size;
        // Both refill the read buffer first, as a read does: unmasking works in place.
        let mut read = wire.clone();
        let mut socket = Vec::with_capacity(64 << 10);
        group.bench_function(BenchmarkId::new("floor", size), |bencher| {
            bencher.iter(|| {
                read.copy_from_slice(black_box(&wire));
                floor(&mut read, header_len, &mut socket);
                black_box(&socket);
            });
        });
        let mut echo = Echo::new(None);
        group.bench_function(BenchmarkId::new("plain", size), |bencher| {
            bencher.iter(|| {
                read.copy_from_slice(black_box(&wire));
                echo.turn(&mut read);
                black_box(&echo.socket);
            });
        });
        let wire = compressed_frame(payload);
        let mut read = wire.clone();
        let mut echo = Echo::new(Some(SHARED));
        group.bench_function(BenchmarkId::new("shared_deflate", size), |bencher| {
            bencher.iter(|| {
                read.copy_from_slice(black_box(&wire));
                echo.turn(&mut read);
                black_box(&echo.socket);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
