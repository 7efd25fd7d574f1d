//! What goes in comes back, byte for byte, however it was cut, packed and mixed.

#![cfg(feature = "cli")]

mod common;

use std::io::Write;
use std::thread;

use common::{
    BINARY, CONTINUATION, Client, PING, PONG, TEXT, VARIANTS, any_len, deflated_frame, frame, noise, random, raw_frame,
    serve, words,
};
use corewire::builtin::Echo;
use corewire::connection::{Limits, Random};

#[test]
fn every_length_comes_back_in_any_cuts() {
    for variant in VARIANTS {
        // What does not shrink grows when it is deflated all the same.
        let limits = Limits { message_bytes_max: 17 << 20, frame_bytes_max: 17 << 20, ..Limits::default() };
        let server = serve(variant, |builder| builder.limits(limits), |_| Echo);
        let mut random = random();
        for (opcode, deflated) in [(TEXT, false), (BINARY, false), (TEXT, true), (BINARY, true)] {
            let mut client = if deflated { Client::open_deflate(server.addr) } else { Client::open(server.addr) };
            for len in LENGTHS {
                let payload = if opcode == TEXT { words(len, &mut random) } else { noise(len, &mut random) };
                let wire = if deflated { deflated_frame(opcode, &payload) } else { frame(opcode, &payload) };
                send_in_cuts(&mut client, &wire, &mut random);
                let (got_opcode, got) = client.message();
                assert_eq!(got_opcode, opcode);
                assert!(got == payload, "{len} bytes, opcode {opcode}, deflated {deflated}");
            }
            client.close();
        }
    }
}

/// The writes of one round are small, so the server sees whole frames, many at once, and cut ones.
#[test]
fn many_connections_at_once_keep_apart() {
    for variant in VARIANTS {
        let server = serve(variant, |builder| builder, |_| Echo);
        let mut random = random();
        let seeds: Vec<u64> = (0..4).map(|_| random.next_u64()).collect();
        let threads: Vec<_> = seeds.into_iter().map(|seed| thread::spawn(move || rounds(server.addr, seed))).collect();
        for thread in threads {
            thread.join().expect("every echo is right");
        }
        server.wait_until_empty();
    }
}

fn rounds(addr: std::net::SocketAddr, seed: u64) {
    let mut random = Random::new(seed);
    let mut clients: Vec<_> = (0..60).map(|_| Client::open(addr)).collect();
    for _ in 0..20 {
        let mut sent = Vec::new();
        for client in &mut clients {
            let len = any_len(15, &mut random);
            let payload = noise(len, &mut random);
            client.send(BINARY, &payload);
            sent.push(payload);
        }
        for (client, payload) in clients.iter_mut().zip(&sent) {
            assert!(client.message() == (BINARY, payload.clone()), "{} bytes", payload.len());
        }
    }
    clients.into_iter().for_each(Client::close);
}

/// Half of the bytes of a message arrive while its connection becomes hot or cold again.
#[test]
fn tens_of_thousands_of_flips_lose_no_byte() {
    let restless = VARIANTS.into_iter().find(|variant| variant.restless).expect("one variant flips");
    let server = serve(restless, |builder| builder, |_| Echo);
    let promotions = || server.sum(|metrics| &metrics.promotions);
    thread::scope(|scope| {
        for seed in 0..4 {
            scope.spawn(move || {
                let mut random = Random::new(seed);
                let mut clients: Vec<_> = (0..10).map(|_| Client::open(server.addr)).collect();
                while promotions() < FLIPS {
                    let payloads: Vec<_> =
                        clients.iter().map(|_| noise(any_len(12, &mut random), &mut random)).collect();
                    for (client, payload) in clients.iter_mut().zip(&payloads) {
                        let wire = frame(BINARY, payload);
                        let (begin, rest) = wire.split_at(random.below(wire.len() as u64) as usize);
                        client.send_raw(begin);
                        client.send_raw(rest);
                    }
                    for (client, payload) in clients.iter_mut().zip(payloads) {
                        assert!(client.message() == (BINARY, payload));
                    }
                }
                clients.into_iter().for_each(Client::close);
            });
        }
    });
    server.wait_until_empty();
    let demotions = server.sum(|metrics| &metrics.demotions);
    assert!(promotions() >= FLIPS && demotions == promotions(), "{} and {demotions}", promotions());
}

const FLIPS: u64 = 50_000;

#[test]
fn a_hundred_messages_in_one_write_come_back_whole_in_order_and_in_few_writes() {
    for variant in VARIANTS {
        let server = serve(variant, |builder| builder, |_| Echo);
        let mut client = Client::open(server.addr);
        for round in 0..20 {
            let before = server.sum(|metrics| &metrics.writes_direct) + server.sum(|metrics| &metrics.writes_ring);
            let wire: Vec<u8> = (0..100).flat_map(|n| frame(TEXT, format!("{round} {n}").as_bytes())).collect();
            client.send_raw(&wire);
            for n in 0..100 {
                assert_eq!(client.text(), format!("{round} {n}"));
            }
            let after = server.sum(|metrics| &metrics.writes_direct) + server.sum(|metrics| &metrics.writes_ring);
            // One read makes one write; the kernel may hand the bytes over in a few pieces.
            assert!(after - before <= 5, "{} writes", after - before);
        }
        client.close();
    }
}

/// One end writes without ever waiting for an answer, the other reads: megabytes are under way both ways.
#[test]
fn a_stream_of_messages_of_all_sizes_keeps_its_order() {
    for variant in VARIANTS {
        let server = serve(variant, |builder| builder, |_| Echo);
        let mut random = random();
        let seed = random.next_u64();
        let mut client = Client::open(server.addr);
        let mut writer = client.writer();
        let writing = thread::spawn(move || {
            for payload in stream_of_payloads(seed) {
                writer.write_all(&frame(BINARY, &payload)).expect("the server reads");
            }
        });
        for (index, payload) in stream_of_payloads(seed).enumerate() {
            assert!(client.message() == (BINARY, payload), "message {index}");
        }
        writing.join().expect("all was written");
        client.close();
    }
}

fn stream_of_payloads(seed: u64) -> impl Iterator<Item = Vec<u8>> {
    let mut random = Random::new(seed);
    (0..2000).map(move |_| {
        let len = any_len(18, &mut random);
        noise(len, &mut random)
    })
}

#[test]
fn fragments_are_put_together_with_pings_between_them_answered() {
    for variant in VARIANTS {
        let server = serve(variant, |builder| builder, |_| Echo);
        let mut random = random();
        let mut client = Client::open(server.addr);
        for len in [0, 1, 10, 1000, 100_000] {
            let payload = words(len, &mut random);
            let pieces: Vec<_> = payload.chunks(len / 7 + 1).collect();
            let mut wire = raw_frame(TEXT, b"");
            for (index, piece) in pieces.iter().enumerate() {
                wire.extend(frame(PING, format!("between {index}").as_bytes()));
                wire.extend(raw_frame(CONTINUATION, piece));
            }
            wire.extend(raw_frame(0x80 | CONTINUATION, b""));
            send_in_cuts(&mut client, &wire, &mut random);
            for index in 0..pieces.len() {
                let pong = client.frame();
                assert_eq!((pong.opcode, pong.payload), (PONG, format!("between {index}").into_bytes()));
            }
            assert!(client.message() == (TEXT, payload), "{len} bytes");
        }
        client.close();
    }
}

#[test]
fn a_foreign_client_gets_its_echoes() {
    use tungstenite::{Message, connect};
    for variant in VARIANTS {
        let server = serve(variant, |builder| builder, |_| Echo);
        let mut random = random();
        let (mut socket, response) = connect(format!("ws://{}/chat?x=1", server.addr)).expect("an upgrade");
        assert_eq!(response.status(), 101);
        for len in [0, 1, 125, 126, 65_535, 65_536, 1 << 20] {
            let text = String::from_utf8(words(len, &mut random)).expect("text");
            for message in [Message::text(text), Message::binary(noise(len, &mut random))] {
                socket.send(message.clone()).expect("it is written");
                assert!(socket.read().expect("an echo") == message, "{len} bytes");
            }
        }
        socket.send(Message::Ping("are you there".into())).expect("it is written");
        assert_eq!(socket.read().expect("a pong"), Message::Pong("are you there".into()));
        socket.close(None).expect("it is written");
        while socket.read().is_ok() {}
        drop(socket);
        server.wait_until_empty();
    }
}

/// Cuts small ones anywhere, large ones near both ends and in a few places between.
fn send_in_cuts(client: &mut Client, wire: &[u8], random: &mut Random) {
    let mut rest = wire;
    let mut cuts = 0;
    while !rest.is_empty() {
        let longest = if cuts < 5 { 9 } else { 1 + (wire.len() as u64 / 5) };
        let len = (1 + random.below(longest) as usize).min(rest.len());
        let (piece, after) = rest.split_at(len);
        client.send_raw(piece);
        rest = after;
        cuts += 1;
    }
}

/// Around every border of the length encoding and of a buffer.
const LENGTHS: [usize; 33] = [
    0,
    1,
    2,
    15,
    16,
    17,
    124,
    125,
    126,
    127,
    128,
    4095,
    4096,
    4097,
    16_376,
    16_382,
    16_383,
    16_384,
    16_385,
    16_386,
    65_528,
    65_534,
    65_535,
    65_536,
    65_537,
    131_071,
    131_073,
    262_143,
    262_144,
    262_145,
    1 << 20,
    (1 << 20) + 1,
    16 << 20,
];
