//! What one peer, or all together, may use, and the times that peers have.

#![cfg(feature = "cli")]

mod common;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{
    BINARY, CONTINUATION, Client, PING, PONG, TEXT, VARIANTS, at_once, frame, raw_frame, request, serve, until,
};
use corewire::builtin::{Broadcast, Echo};
use corewire::connection::Limits;
use corewire::handler::{Accept, Conn, Handler, Request, Upgrade};
use corewire::protocol::Message;

#[test]
fn connections_beyond_the_limit_get_503_and_room_is_given_again() {
    for variant in VARIANTS {
        let server = serve(variant, |builder| builder.connections_max(3), |_| Echo);
        let mut inside: Vec<_> = (0..3).map(|_| Client::open(server.addr)).collect();
        for _ in 0..10 {
            let mut outside = Client::tcp(server.addr);
            let reply = outside.ask("/", "");
            assert_eq!(reply.status, 503, "{reply:?}");
            outside.end();
            // Most of them stay, and still count for nothing.
            std::mem::forget(outside);
        }
        assert_eq!(server.sum(|metrics| &metrics.refused_capacity), 10);
        assert_eq!(server.handle.connection_count(), 3);
        inside.remove(0).close();
        until("there is room", || server.handle.connection_count() == 2);
        let mut client = Client::open(server.addr);
        client.send_text("inside");
        assert_eq!(client.text(), "inside");
        client.close();
        inside.into_iter().for_each(Client::close);
        server.wait_until_empty();
    }
}

/// Being told costs a place; who is one of very many that are too many is not told.
#[test]
fn a_flood_beyond_the_limit_is_closed_and_does_not_pile_up() {
    let limits = Limits { close_timeout: Duration::from_millis(300), ..Limits::default() };
    for variant in VARIANTS {
        let server = serve(variant, |builder| builder.connections_max(1).limits(limits.clone()), |_| Echo);
        let mut inside = Client::open(server.addr);
        let mut crowd: Vec<_> = (0..500).map(|_| Client::tcp(server.addr)).collect();
        for client in &mut crowd {
            client.gone();
        }
        let closing = || server.sum(|metrics| &metrics.connections_closing);
        assert!(closing() <= 128, "{} are being told", closing());
        until("all have been told", || closing() == 0);
        assert_eq!(server.sum(|metrics| &metrics.refused_capacity), 500);
        inside.send_text("still fine");
        assert_eq!(inside.text(), "still fine");
    }
}

#[test]
fn each_limit_closes_with_its_code() {
    let limits = Limits {
        message_bytes_max: 1000,
        frame_bytes_max: 600,
        fragments_max: 4,
        header_bytes_max: 2000,
        headers_max: 10,
        ..Limits::default()
    };
    for variant in VARIANTS {
        let server = serve(variant, |builder| builder.limits(limits.clone()), |_| Echo);
        let fragments = |first_len: usize, count: usize, len: usize| {
            let mut wire = raw_frame(BINARY, &vec![1; first_len]);
            (1..count).for_each(|_| wire.extend(raw_frame(CONTINUATION, &vec![1; len])));
            wire
        };
        let cases: [(&str, Vec<u8>, u16); 4] = [
            ("a frame that is too large", raw_frame(0x80 | BINARY, &[1; 601]), 1009),
            ("an announcement that is too large", vec![0x82, 0xFF, 0x7F, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4], 1009),
            ("a message that is too large", fragments(600, 2, 401), 1009),
            ("too many fragments", fragments(1, 5, 1), 1008),
        ];
        for (name, wire, want) in cases {
            let mut client = Client::open(server.addr);
            client.send_raw(&wire);
            assert_eq!(client.close_frame().0, want, "{name}");
            client.end();
        }
        let mut client = Client::open(server.addr);
        let mut wire = fragments(600, 3, 200);
        wire.extend(raw_frame(0x80, b""));
        client.send_raw(&wire);
        assert!(client.message() == (BINARY, vec![1; 1000]), "what is just within all limits");

        let long = format!("X: {}\r\n", "x".repeat(2000));
        assert_eq!(Client::tcp(server.addr).ask("/", &long).status, 431);
        assert_eq!(Client::tcp(server.addr).ask("/", &"X: y\r\n".repeat(11)).status, 431);
        assert_eq!(Client::tcp(server.addr).ask("/", &"X: y\r\n".repeat(5)).status, 101);
    }
}

/// A head without end is answered, and what follows is dropped, so that the answer is not destroyed by a reset.
#[test]
fn a_head_without_end_gets_431() {
    for variant in VARIANTS {
        let server = serve(variant, |builder| builder, |_| Echo);
        for line in ["X-Filler: abcdefghijklmnopqrstuvwxyz\r\n", "endless"] {
            let mut client = Client::tcp(server.addr);
            client.send_raw(b"GET / HTTP/1.1\r\nHost: x\r\nX: ");
            let mut writer = client.writer();
            let text = line.repeat(4000);
            let writing = thread::spawn(move || (0..40).all(|_| writer.write_all(text.as_bytes()).is_ok()));
            let reply = client.reply();
            assert_eq!(reply.status, 431, "{reply:?}");
            client.end();
            assert!(writing.join().expect("no panic"), "megabytes are read and dropped");
        }
        server.wait_until_empty();
    }
}

#[test]
fn a_silent_peer_is_asked_and_then_given_up() {
    // Far enough from each other that a machine which stands still for two seconds does not miss the first.
    let limits = Limits {
        ping_interval: Duration::from_millis(150),
        idle_timeout: Duration::from_millis(3000),
        ..Limits::default()
    };
    at_once(|variant| {
        let server = serve(variant, |builder| builder.limits(limits.clone()), |_| Echo);
        let start = Instant::now();
        let mut client = Client::open(server.addr);
        let ping = client.frame();
        assert_eq!(ping.opcode, PING);
        assert!(start.elapsed() >= Duration::from_millis(140), "asked after {:?}", start.elapsed());
        assert_eq!(client.close_frame(), (1001, "idle".to_owned()), "one ping is enough");
        assert!(start.elapsed() >= Duration::from_millis(2990), "given up after {:?}", start.elapsed());
        client.end();
    });
}

#[test]
fn a_peer_that_answers_pings_or_sends_anything_else_is_kept() {
    // Longer than a machine stands still that is stopped for a moment: a peer on it would be silent, too.
    const IDLE: Duration = Duration::from_millis(2500);
    const TALK: Duration = Duration::from_millis(3500);
    let limits = Limits { ping_interval: Duration::from_millis(100), idle_timeout: IDLE, ..Limits::default() };
    at_once(|variant| {
        let server = serve(variant, |builder| builder.limits(limits.clone()), |_| Echo);
        let (mut polite, mut slow) = (Client::open(server.addr), Client::open(server.addr));
        let talking = thread::spawn(move || {
            let start = Instant::now();
            while start.elapsed() < TALK {
                let ping = polite.frame();
                assert_eq!(ping.opcode, PING, "{ping:?}");
                polite.send(PONG, &ping.payload);
            }
            polite.close();
        });
        // Single bytes of one long frame are signs of life too.
        let wire = frame(BINARY, &[6; 40]);
        for byte in &wire {
            slow.send_raw(&[*byte]);
            thread::sleep(TALK / wire.len() as u32);
        }
        assert_eq!(slow.message(), (BINARY, vec![6; 40]));
        talking.join().expect("it is kept");
    });
}

#[test]
fn a_cut_frame_and_then_silence_is_idle() {
    let limits = Limits {
        ping_interval: Duration::ZERO,
        idle_timeout: Duration::from_millis(300),
        close_timeout: Duration::from_millis(300),
        ..Limits::default()
    };
    for variant in VARIANTS {
        let server = serve(variant, |builder| builder.limits(limits.clone()), |_| Echo);
        let wire = frame(TEXT, &[b'x'; 70_000]);
        for cut in [1, 2, 9, 13, 14, 15, 5000, 69_999] {
            let mut client = Client::open(server.addr);
            client.send_raw(&wire[..cut]);
            assert_eq!(client.close_frame(), (1001, "idle".to_owned()), "cut at {cut}");
            client.end();
        }
        server.wait_until_empty();
    }
}

#[test]
fn nobody_lives_longer_than_the_longest_life() {
    let limits = Limits { lifetime_max: Some(Duration::from_secs(1)), ..Limits::default() };
    for variant in VARIANTS {
        let server = serve(variant, |builder| builder.limits(limits.clone()), |_| Echo);
        let start = Instant::now();
        let mut clients: Vec<_> = (0..30).map(|_| Client::open(server.addr)).collect();
        for client in &mut clients {
            assert_eq!(client.close_frame().0, 1001);
            client.send_close(1001, "");
            client.end();
            let lived = start.elapsed();
            assert!(lived > Duration::from_millis(850), "{lived:?}");
        }
        drop(clients);
        server.wait_until_empty();
    }
}

#[test]
fn a_handshake_that_does_not_end_is_cut_at_its_deadline() {
    // Longer than a client is held up that asks at once.
    const HANDSHAKE: Duration = Duration::from_millis(2500);
    let limits = Limits { handshake_timeout: HANDSHAKE, ..Limits::default() };
    at_once(|variant| {
        let server = serve(variant, |builder| builder.limits(limits.clone()), |_| Echo);
        // The deadline of the handshake is none of the WebSocket's.
        let mut client = Client::open(server.addr);
        let start = Instant::now();
        let mut mute = Client::tcp(server.addr);
        let mut slow = Client::tcp(server.addr);
        slow.send_raw(&request("/", "").as_bytes()[..50]);
        mute.end();
        assert!(start.elapsed() >= HANDSHAKE - Duration::from_millis(10), "{:?}", start.elapsed());
        assert_eq!(slow.reply().status, 408);
        slow.end();
        assert!(start.elapsed() >= HANDSHAKE - Duration::from_millis(10), "{:?}", start.elapsed());
        assert_eq!(server.sum(|metrics| &metrics.refused_timeout), 2);
        client.send_text("still here");
        assert_eq!(client.text(), "still here");
    });
}

/// The queue of who never reads is bounded, its end is 1008, and nobody else suffers.
#[test]
fn who_never_reads_a_broadcast_is_closed_and_the_others_get_all_of_it() {
    let limits = Limits {
        queued_bytes_max: 1 << 20,
        queued_bytes_pause: 512 << 10,
        close_timeout: Duration::from_millis(300),
        ..Limits::default()
    };
    for variant in VARIANTS {
        let server = serve(variant, |builder| builder.limits(limits.clone()), |_| Broadcast);
        let _deaf = Client::tcp_narrow(server.addr).upgraded("");
        let listeners: Vec<_> = (0..5).map(|_| Client::open(server.addr)).collect();
        let mut speaker = Client::open(server.addr);
        const COUNT: usize = 1500;
        // How many each of them has heard: whoever reads must not be taken for slow because it gets no time to run.
        let heard: Arc<[AtomicUsize]> = listeners.iter().map(|_| AtomicUsize::new(0)).collect();
        let reading: Vec<_> = listeners
            .into_iter()
            .enumerate()
            .map(|(listener, mut client)| {
                let heard = heard.clone();
                thread::spawn(move || {
                    for n in 0..COUNT {
                        let (_, payload) = client.message();
                        assert_eq!(payload.len(), 10_000);
                        assert_eq!(payload[..8], n.to_be_bytes(), "message {n}");
                        heard[listener].store(n + 1, Ordering::Relaxed);
                    }
                    client.close();
                })
            })
            .collect();
        for n in 0..COUNT {
            while heard.iter().any(|heard| heard.load(Ordering::Relaxed) + 30 < n) {
                assert!(reading.iter().all(|reader| !reader.is_finished()), "somebody heard no more");
                thread::sleep(Duration::from_millis(1));
            }
            let mut payload = n.to_be_bytes().to_vec();
            payload.resize(10_000, 1);
            speaker.send(BINARY, &payload);
            assert!(speaker.message() == (BINARY, payload));
        }
        reading.into_iter().for_each(|reader| reader.join().expect("all of it came"));
        until("it is closed", || server.sum(|metrics| &metrics.closes_policy) == 1);
        until("it is gone", || server.handle.connection_count() == 1);
        speaker.close();
    }
}

/// Pings to who does not read: the pongs wait in the queue, so the queue must stop the pings.
#[test]
fn pongs_that_nobody_reads_do_not_pile_up() {
    for variant in VARIANTS {
        let server = serve(variant, |builder| builder, |_| Echo);
        let mut client = Client::tcp_narrow(server.addr).upgraded("");
        let mut writer = client.writer();
        const COUNT: usize = 200_000;
        let writing = thread::spawn(move || {
            let pings: Vec<u8> = (0..100).flat_map(|_| frame(PING, &[b'p'; 125])).collect();
            (0..COUNT / 100).for_each(|_| writer.write_all(&pings).expect("it is read at last"));
        });
        let came = || server.sum(|metrics| &metrics.bytes_in);
        until("reading stops", || {
            let before = came();
            thread::sleep(Duration::from_millis(50));
            came() == before
        });
        let went = server.sum(|metrics| &metrics.bytes_out);
        assert!(came() - went < 2 << 20, "{} bytes came, {went} went", came());
        for _ in 0..COUNT {
            assert_eq!(client.frame().opcode, PONG);
        }
        writing.join().expect("all was written");
    }
}

/// Queues this many bytes at once, whatever becomes of it.
struct Burst;

impl Handler for Burst {
    type Session = ();

    fn upgrade(&mut self, _: &mut Conn<'_>, _: &Request<'_>) -> Upgrade<()> {
        Upgrade::Accept(Accept::new(()))
    }

    fn message(&mut self, conn: &mut Conn<'_>, _: &mut (), message: Message<'_>) {
        let len: usize = message.text().and_then(|text| text.parse().ok()).expect("a number");
        // The policy acts on what does not fit.
        let _ = conn.send_binary(&vec![2; len]);
    }
}

#[test]
fn one_message_larger_than_the_queue_is_the_end_of_a_connection() {
    let limits = Limits { queued_bytes_max: 100_000, ..Limits::default() };
    for variant in VARIANTS {
        let server = serve(variant, |builder| builder.limits(limits.clone()), |_| Burst);
        let mut client = Client::open(server.addr);
        client.send_text("99000");
        assert_eq!(client.message().1.len(), 99_000);
        client.send_text("100001");
        assert_eq!(client.close_frame(), (1008, "slow consumer".to_owned()));
    }
}
