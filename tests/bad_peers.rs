//! Peers that break rules, flood, stall or vanish: each gets what it deserves, and nobody else notices.

#![allow(clippy::print_stderr, reason = "a test says what it measured, for whoever reads its output")]
#![cfg(feature = "cli")]

mod common;

use std::io::Write;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use common::binary::Binary;
use common::{
    BINARY, CLOSE, CONTINUATION, Client, PATIENCE, PING, PONG, TEXT, TestServer, VARIANTS, frame, noise, random,
    raw_frame, request, serve, until,
};
use corewire::builtin::Echo;
use corewire::connection::Limits;
use corewire::protocol::deflate::Deflater;

fn echo(server: &TestServer) {
    let mut client = Client::open(server.addr);
    client.send_text("is all well?");
    assert_eq!(client.text(), "is all well?");
    client.close();
}

#[test]
fn what_is_no_request_gets_400() {
    for variant in VARIANTS {
        let server = serve(variant, |builder| builder, |_| Echo);
        let hello = [&[0x16, 0x03, 0x01, 0x00, 0xF8, 0x01, 0x00, 0x00, 0xF4, 0x03, 0x03][..], &[7; 200]].concat();
        let cases: [(&str, &[u8]); 5] = [
            ("a TLS ClientHello", &hello),
            ("zeros", &[0; 64]),
            ("an HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
            ("a line without a method", b" / HTTP/1.1\r\n\r\n"),
            ("a frame", &frame(TEXT, b"hello")),
        ];
        for (name, bytes) in cases {
            let mut client = Client::tcp(server.addr);
            client.send_raw(bytes);
            let status = client.reply().status;
            assert!(status == 400 || status == 505, "{name}: {status}");
            client.end();
        }
        let mut random = random();
        for _ in 0..50 {
            let mut client = Client::tcp(server.addr);
            client.send_raw(&noise(500, &mut random));
            client.fin();
            client.gone();
        }
        echo(&server);
        server.wait_until_empty();
    }
}

#[test]
fn each_broken_rule_has_its_code() {
    let cases: &[(&str, Vec<u8>, u16)] = &[
        ("unmasked text", vec![0x81, 2, b'h', b'i'], 1002),
        ("unmasked ping", vec![0x89, 0], 1002),
        ("unmasked close", vec![0x88, 2, 3, 0xE8], 1002),
        ("RSV1 without an extension", raw_frame(0xC1, b"x"), 1002),
        ("RSV2", raw_frame(0xA1, b"x"), 1002),
        ("RSV3", raw_frame(0x91, b"x"), 1002),
        ("opcode 3", raw_frame(0x83, b"x"), 1002),
        ("opcode 7", raw_frame(0x87, b"x"), 1002),
        ("opcode 11", raw_frame(0x8B, b""), 1002),
        ("opcode 15", raw_frame(0x8F, b""), 1002),
        ("a ping of 126 bytes", frame(PING, &[0; 126]), 1002),
        ("a pong of 70,000 bytes", frame(PONG, &vec![0; 70_000]), 1002),
        ("a close of 126 bytes", frame(CLOSE, &[3; 126]), 1002),
        ("a fragmented ping", raw_frame(PING, b"x"), 1002),
        ("a continuation of nothing", frame(CONTINUATION, b"x"), 1002),
        ("a message within a message", [raw_frame(TEXT, b"a"), frame(TEXT, b"b")].concat(), 1002),
        ("5 bytes in the longest form", [&[0x82, 0xFE, 0, 5, 1, 2, 3, 4][..], &[0; 5]].concat(), 1002),
        ("a length of 2^63", vec![0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4], 1002),
        ("text that is not UTF-8", frame(TEXT, &[b'a', 0xC0, 0x80]), 1007),
        ("text that ends within a character", frame(TEXT, &"€".as_bytes()[..2]), 1007),
    ];
    for variant in VARIANTS {
        let server = serve(variant, |builder| builder, |_| Echo);
        for (name, wire, want) in cases {
            // Whole, and byte by byte, which makes it hot on the ring; with an echo before it, and a flood behind.
            for piecemeal in [false, true] {
                let mut client = Client::open(server.addr);
                client.send_text("before");
                match piecemeal {
                    true => wire.iter().take(200).for_each(|byte| client.send_raw(&[*byte])),
                    false => client.send_raw(wire),
                }
                client.send_raw(&[0; 5000]);
                assert_eq!(client.text(), "before", "{name}");
                assert_eq!(client.close_frame().0, *want, "{name}");
                client.end();
            }
        }
        echo(&server);
        server.wait_until_empty();
    }
}

/// A few thousand peers who send a byte now and then never get in anybody's way, and end with their deadline.
#[test]
fn thousands_of_slow_handshakes_hold_nobody_up() {
    const COUNT: usize = 3000;
    const HANDSHAKE: Duration = Duration::from_secs(3);
    for variant in VARIANTS {
        let limits = Limits { handshake_timeout: HANDSHAKE, ..Limits::default() };
        let server = serve(variant, |builder| builder.limits(limits), |_| Echo);
        let text = request("/", "");
        // A byte at once: who has not said anything is not answered, however long it took the others to come.
        let mut slow: Vec<_> = (0..COUNT)
            .map(|_| {
                let mut client = Client::tcp(server.addr);
                client.send_raw(&text.as_bytes()[..1]);
                client
            })
            .collect();
        for byte in text.bytes().skip(1).take(3) {
            let start = Instant::now();
            for client in &mut slow {
                // One that was slower still may have been cut already.
                let _ = client.socket.write_all(&[byte]);
            }
            echo(&server);
            eprintln!("a round of {COUNT} bytes and an echo in {:?}", start.elapsed());
        }
        let start = Instant::now();
        for client in &mut slow {
            assert_eq!(client.reply().status, 408);
            client.end();
        }
        assert!(start.elapsed() < HANDSHAKE + Duration::from_secs(20), "{:?}", start.elapsed());
        assert_eq!(server.sum(|metrics| &metrics.refused_timeout), COUNT as u64);
        drop(slow);
        server.wait_until_empty();
        echo(&server);
    }
}

#[test]
fn peers_that_reset_amid_a_frame_are_gone_and_the_others_fine() {
    for variant in VARIANTS {
        let server = serve(variant, |builder| builder, |_| Echo);
        let mut bystanders: Vec<_> = (0..10).map(|_| Client::open(server.addr)).collect();
        let wire = frame(BINARY, &[5; 100_000]);
        for round in 0..5 {
            let resetting: Vec<_> = (0..40)
                .map(|n| {
                    let mut client = Client::open(server.addr);
                    client.send_raw(&wire[..[1, 8, 20, 70_000, wire.len()][n % 5]]);
                    client
                })
                .collect();
            resetting.into_iter().for_each(Client::reset);
            for client in &mut bystanders {
                client.send_text(&format!("round {round}"));
                assert_eq!(client.text(), format!("round {round}"));
            }
        }
        until("only bystanders are left", || server.handle.connection_count() == 10);
        assert_eq!(server.sum(|metrics| &metrics.closes_abnormal), 200);
        bystanders.into_iter().for_each(Client::close);
        server.wait_until_empty();
    }
}

/// Two hundred and fifty-six mebibytes of zeros in a quarter of one, again and again.
#[test]
fn deflate_bombs_are_stopped_at_the_limit() {
    let mut bomb = Vec::new();
    Deflater::new(15, 1).deflate(&vec![0; 256 << 20], &mut bomb, false);
    let bomb = raw_frame(0xC0 | BINARY, &bomb);
    for variant in VARIANTS {
        let binary = Binary::on_any_port(variant, &["echo", "--max-message-bytes", "4MiB"]);
        let explode = || {
            let mut client = Client::open_deflate(binary.addr());
            client.send_raw(&bomb);
            assert_eq!(client.close_frame().0, 1009);
            client.end();
        };
        explode();
        let before = binary.peak_kib();
        (0..10).for_each(|_| explode());
        let mut clients: Vec<_> = (0..20).map(|_| Client::open_deflate(binary.addr())).collect();
        clients.iter_mut().for_each(|client| client.send_raw(&bomb));
        clients.iter_mut().for_each(|client| assert_eq!(client.close_frame().0, 1009));
        let after = binary.peak_kib();
        eprintln!("a peak of {before} KiB, then of {after} KiB");
        // A single one that went off would take more; the allocator keeps some of what was freed.
        assert!(before < 100 << 10 && after < 200 << 10, "a peak of {before} KiB, then of {after} KiB");
    }
}

// ---- descriptors ---------------------------------------------------------------------------------------------

#[test]
fn out_of_descriptors_accepting_pauses_and_goes_on_when_connections_end() {
    const FILES: u32 = 90;
    for variant in VARIANTS {
        let binary = Binary::start_with_files(variant, Some(FILES), 1, &["echo", "--listen", "127.0.0.1:0"]);
        let own = binary.files();
        assert!(own < 60, "it has {own} descriptors of its own");
        let mut crowd: Vec<_> = (0..150).map(|_| Client::tcp(binary.addr())).collect();
        crowd.iter_mut().for_each(|client| client.send_raw(request("/", "").as_bytes()));
        binary.wait_for_log("accepting pauses");
        assert!(binary.log().contains("ulimit -n"), "{}", binary.log());

        // It waits without burning: a pause lasts half a second and costs next to nothing.
        let pauses = || binary.log().matches("accepting pauses").count();
        let (ticks_before, pauses_before) = (binary.cpu_ticks(), pauses());
        thread::sleep(Duration::from_secs(2));
        let (ticks, paused) = (binary.cpu_ticks() - ticks_before, pauses() - pauses_before);
        assert!(ticks < 30, "{ticks} ticks of CPU in two seconds");
        // Each core said it once; while it lasts it is not repeated in every pause.
        assert!(paused <= 2, "{paused} more lines in two seconds");

        // Those inside go, and those outside come in, all of them in the end.
        until("everybody was inside", || {
            if let Some(next) = crowd.iter_mut().position(has_reply) {
                let mut client = crowd.swap_remove(next);
                assert_eq!(client.reply().status, 101);
                client.send_text("inside");
                assert_eq!(client.text(), "inside");
                client.close();
            }
            crowd.is_empty()
        });
        until("all are closed", || binary.files() <= own);
        let mut client = Client::open(binary.addr());
        client.send_text("and now");
        assert_eq!(client.text(), "and now");
        client.close();
    }
}

fn has_reply(client: &mut Client) -> bool {
    client.set_read_timeout(Duration::from_millis(1));
    let there = client.peek();
    client.set_read_timeout(PATIENCE);
    there
}

// ---- memory --------------------------------------------------------------------------------------------------

/// Every kind of end, over and over: what remains of a connection is nothing.
#[test]
fn twenty_thousand_connections_leave_nothing_behind() {
    for variant in VARIANTS {
        let binary = Binary::on_any_port(variant, &["echo", "--close-timeout", "500ms"]);
        let own = binary.files();
        let wave = |connections: u32| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    let addr = binary.addr();
                    thread::spawn(move || (0..connections / 4).for_each(|n| come_and_go(addr, n)))
                })
                .collect();
            threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
            until("all are closed", || binary.files() <= own);
        };
        let start = Instant::now();
        // Memory that holds no file: what is shared with servers of other tests comes and goes with those.
        wave(5000);
        let before = binary.anonymous_kib();
        wave(15_000);
        // The first figure may be from before a core has given memory back, or from after.
        until("20,000 take no more than 5,000 did", || binary.anonymous_kib() < before + 2048);
        let after = binary.anonymous_kib();
        eprintln!("{before} KiB after 5,000, {after} KiB after 20,000 connections, in {:?}", start.elapsed());
    }
}

/// A reset at the end of each, or an orderly end by the server, leaves no port of ours waiting.
fn come_and_go(addr: SocketAddr, n: u32) {
    let mut client = Client::tcp(addr);
    match n % 8 {
        0 => {}
        1 => client.send_raw(b"GET / HTTP/1.1\r\nHost"),
        2 => client.send_raw(b"\x16\x03\x01 garbage\r\n\r\n"),
        3 => {
            client.send_raw(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
            assert_eq!(client.reply().status, 200);
        }
        4 => {
            client = client.upgraded("");
            client.send_raw(&frame(BINARY, &[1; 3000])[..2000]);
        }
        5 => {
            client = client.upgraded("");
            client.send(BINARY, &[2; 30_000]);
        }
        6 => return client.upgraded("").close(),
        _ => {
            client = client.upgraded("");
            client.send_text("hello");
            assert_eq!(client.text(), "hello");
        }
    }
    client.reset();
}

/// What large messages needed is used again. The allocator keeps some of it, but not more with every burst.
#[test]
fn bursts_of_large_messages_do_not_add_up() {
    for variant in VARIANTS {
        let binary = Binary::on_any_port(variant, &["echo"]);
        let wire = frame(BINARY, &vec![1; 2 << 20]);
        let burst = || {
            let mut clients: Vec<_> = (0..20).map(|_| Client::open(binary.addr())).collect();
            clients.iter_mut().for_each(|client| client.send_raw(&wire));
            clients.iter_mut().for_each(|client| assert_eq!(client.message().1.len(), 2 << 20));
            clients.into_iter().for_each(Client::close);
        };
        (0..3).for_each(|_| burst());
        let before = binary.peak_kib();
        (0..12).for_each(|_| burst());
        let after = binary.peak_kib();
        eprintln!("a peak of {before} KiB, then of {after} KiB");
        // Twelve bursts are 480 MiB.
        assert!(after < before + (100 << 10), "a peak of {before} KiB, then of {after} KiB");
    }
}
