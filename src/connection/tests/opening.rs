//! The opening handshake as the connection sees it: a head at every cut, the answer, what the peer sends too early.

use super::*;

const HEAD: &[u8] = b"GET /chat HTTP/1.1\r\nHost: a.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                      Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

#[test]
fn a_head_and_a_first_message_at_every_cut() {
    let wire = [HEAD, &frame(Role::Client, 0x81, b"early"), &frame(Role::Client, 0x89, b"p")].concat();
    let want = format!("head of {} bytes, text 'early', ping 'p'", HEAD.len());
    for cut in 0..=wire.len() {
        assert_opens(&[&wire[..cut], &wire[cut..]], &want);
    }
    assert_opens(&wire.chunks(1).collect::<Vec<_>>(), &want);
}

fn assert_opens(pieces: &[&[u8]], want: &str) {
    let mut end = End::accepted(Limits::default());
    for piece in pieces {
        let mut bytes = piece.to_vec();
        let mut input = Input::new(&mut bytes);
        while let Some(event) = end.connection.poll_event(&mut input, &mut end.workspace, end.now) {
            end.heard.push(in_words(&event));
            if let Event::Head(head) = &event {
                assert_eq!(head.bytes(), HEAD);
                accept(&mut end);
            }
        }
        end.connection.end_input(&mut input, &mut end.workspace);
    }
    assert_eq!(end.told(), want, "the first piece of {} bytes", pieces[0].len());
    assert_eq!(end.output(), [b"HTTP/1.1 101 \r\n\r\n", &frame(Role::Server, 0x8a, b"p")[..]].concat());
    assert_eq!(end.connection.heap_bytes(), 0);
}

#[test]
fn what_comes_while_the_application_decides_waits_in_order() {
    let first = frame(Role::Client, 0x81, b"first");
    let second = frame(Role::Client, 0x81, b"second");
    for cut in 0..=first.len() {
        let mut end = End::accepted(Limits::default());
        end.read_and(&[HEAD, &first[..cut]].concat(), |connection, _| connection.defer());
        assert!(!end.connection.wants_input(&end.workspace));
        // A read that was under way already.
        end.read(&[&first[cut..], &second].concat());
        assert_eq!(end.told(), format!("head of {} bytes", HEAD.len()));
        accept(&mut end);
        // Something newer comes before the driver has looked at what waited.
        let third = frame(Role::Client, 0x81, b"third");
        end.read(&third);
        assert_eq!(end.told(), "text 'first', text 'second', text 'third'", "cut at {cut}");
    }
}

#[test]
fn a_bad_head_is_answered_once_and_nothing_more_is_read() {
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(101));
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(20_000));
    let cases: &[(&str, &[u8], u16)] = &[
        ("not HTTP", b"\x16\x03\x01\x00\x05hello\r\n\r\n", 400),
        ("no host", b"GET / HTTP/1.1\r\n\r\n", 400),
        ("too many fields", many.as_bytes(), 431),
        ("too long", long.as_bytes(), 431),
    ];
    for (name, wire, status) in cases {
        for piece_len in [1, 7, 1000, wire.len()] {
            let mut end = End::accepted(Limits::default());
            for piece in wire.chunks(piece_len) {
                end.read(piece);
            }
            end.read(HEAD);
            end.eof();
            assert_eq!(end.told(), format!("bad head: {status}"), "{name}, in pieces of {piece_len}");
            assert!(end.said().starts_with(&format!("HTTP/1.1 {status} ")), "{name}");
            assert_eq!(end.connection.next_step(), NextStep::Fin);
        }
    }
}

#[test]
fn a_plain_answer_ends_it() {
    let mut end = End::accepted(Limits::default());
    end.read_and(HEAD, |connection, _| connection.defer());
    let (connection, workspace) = (&mut end.connection, &mut end.workspace);
    connection.respond(&Response::text(403, "no\n"), workspace, end.now);
    // The second answer comes too late, as one that was deferred may.
    connection.respond(&Response::text(200, "yes\n"), workspace, end.now);
    assert_eq!(end.said(), "HTTP/1.1 403 Forbidden 'no'");
    end.read(HEAD);
    end.eof();
    assert_eq!(end.told(), format!("head of {} bytes", HEAD.len()));
    end.connection.fin_sent();
    assert_eq!(end.connection.next_step(), NextStep::Close);
}

#[test]
fn an_answer_to_a_websocket_is_not_sent_into_it() {
    let mut end = End::server();
    end.connection.respond(&Response::text(200, "yes\n"), &mut end.workspace, end.now);
    assert!(end.connection.is_open());
    assert_eq!(end.said(), "");
}

#[test]
fn a_peer_that_leaves_while_opening_is_told_once() {
    let begun = &HEAD[..20];
    for sent in [&b""[..], begun] {
        for reset in [false, true] {
            let mut end = End::accepted(Limits::default());
            end.read(sent);
            if reset {
                end.reset();
            } else {
                end.eof();
            }
            end.eof();
            end.at(10_000);
            assert_eq!(end.told(), "abandoned: Left");
            assert_eq!(end.said(), "");
        }
    }
}

pub(super) fn accept(end: &mut End) {
    let response = |out: &mut Vec<u8>| out.extend_from_slice(b"HTTP/1.1 101 \r\n\r\n");
    end.connection.accept(None, response, &mut end.workspace, end.now);
}
