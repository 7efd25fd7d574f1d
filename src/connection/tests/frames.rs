//! Good frames on the wire and what they say (RFC 6455 §5), in both roles, at every cut.

use super::*;

/// What the peer sends, as first byte and payload of each frame; what is heard; what is answered.
type Case = (&'static str, &'static [(u8, &'static [u8])], &'static str, &'static str);

const CASES: &[Case] = &[
    ("§5.7, text", &[(0x81, b"Hello")], "text 'Hello'", ""),
    ("empty text", &[(0x81, b"")], "text ''", ""),
    ("binary", &[(0x82, b"\x00\xff")], "binary '\\x00\\xff'", ""),
    ("empty binary", &[(0x82, b"")], "binary ''", ""),
    ("two messages", &[(0x81, b"a"), (0x82, b"b")], "text 'a', binary 'b'", ""),
    ("§5.7, two fragments", &[(0x01, b"Hel"), (0x80, b"lo")], "text 'Hello'", ""),
    ("fragments of nothing", &[(0x01, b""), (0x00, b""), (0x80, b"")], "text ''", ""),
    ("the last fragment empty", &[(0x02, b"ab"), (0x00, b"c"), (0x80, b"")], "binary 'abc'", ""),
    ("the first fragment empty", &[(0x01, b""), (0x80, b"a")], "text 'a'", ""),
    ("a character in three fragments", &[(0x01, b"\xe2"), (0x00, b"\x82"), (0x80, b"\xac")], "text '€'", ""),
    ("§5.5.2, ping", &[(0x89, b"Hello")], "ping 'Hello'", "pong 'Hello'"),
    ("empty ping", &[(0x89, b"")], "ping ''", "pong ''"),
    ("pings in a row", &[(0x89, b"1"), (0x89, b"2")], "ping '1', ping '2'", "pong '1', pong '2'"),
    ("§5.5.3, a pong nobody asked for", &[(0x8a, b"x")], "pong 'x'", ""),
    ("empty pong", &[(0x8a, b"")], "pong ''", ""),
    (
        "§5.4, control frames inside a message",
        &[(0x01, b"a"), (0x89, b"p"), (0x00, b"b"), (0x8a, b"q"), (0x80, b"c")],
        "ping 'p', pong 'q', text 'abc'",
        "pong 'p'",
    ),
    ("close without a code", &[(0x88, b"")], "closed 1005 '' by peer", "close 1005 ''"),
    ("close with a code", &[(0x88, b"\x03\xe8")], "closed 1000 '' by peer", "close 1000 ''"),
    ("close with a reason", &[(0x88, b"\x03\xe9gone")], "closed 1001 'gone' by peer", "close 1001 'gone'"),
    ("a reason in UTF-8", &[(0x88, b"\x0f\xa0\xc3\xa9")], "closed 4000 'é' by peer", "close 4000 'é'"),
    (
        "§5.5.1, a message before Close is heard, one behind it is not",
        &[(0x81, b"a"), (0x88, b"\x03\xe8"), (0x81, b"b"), (0x89, b"c")],
        "text 'a', closed 1000 '' by peer",
        "close 1000 ''",
    ),
    ("close inside a message", &[(0x01, b"a"), (0x88, b"\x03\xe8")], "closed 1000 '' by peer", "close 1000 ''"),
    ("a second Close", &[(0x88, b"\x03\xe8"), (0x88, b"\x03\xe9")], "closed 1000 '' by peer", "close 1000 ''"),
];

#[test]
fn frames_and_what_they_say() {
    for (name, frames, want_heard, want_said) in CASES {
        for role in ROLES {
            let sender = opposite(role);
            let wire: Vec<u8> = frames.iter().flat_map(|(first, payload)| frame(sender, *first, payload)).collect();
            assert_at_every_cut(name, role, &wire, want_heard, want_said);
        }
    }
}

#[test]
fn every_length_around_the_forms_of_a_header() {
    for role in ROLES {
        for len in [0, 1, 124, 125, 126, 127, 128, 65_534, 65_535, 65_536, 65_537] {
            let payload = pattern(len);
            let wire = frame(opposite(role), 0x82, &payload);
            let want = format!("binary {}", quoted(&payload));
            for cut in (0..wire.len().min(20)).chain([wire.len() / 2, wire.len() - 1, wire.len()]) {
                assert_reads(&format!("{len} bytes"), role, &[&wire[..cut], &wire[cut..]], &want, "");
            }
        }
    }
}

#[test]
fn control_frames_of_every_length_at_every_cut() {
    for len in [0, 1, 2, 124, 125] {
        let payload = "p".repeat(len);
        let want_said = format!("pong '{payload}'");
        let want_heard = format!("ping '{payload}'");
        let wire = frame(Role::Client, 0x89, payload.as_bytes());
        assert_at_every_cut("ping", Role::Server, &wire, &want_heard, &want_said);
    }
}

#[test]
fn three_pieces_of_a_fragmented_message() {
    let frames: &[(u8, &[u8])] = &[(0x01, b"a\xc3"), (0x89, b"p"), (0x80, b"\xa9z")];
    let wire: Vec<u8> = frames.iter().flat_map(|(first, payload)| frame(Role::Client, *first, payload)).collect();
    for first in 0..=wire.len() {
        for second in first..=wire.len() {
            let pieces = [&wire[..first], &wire[first..second], &wire[second..]];
            assert_reads("three pieces", Role::Server, &pieces, "ping 'p', text 'aéz'", "pong 'p'");
        }
    }
}

#[test]
fn every_close_code_is_answered_or_refused() {
    for role in ROLES {
        for code in 0..=u16::MAX {
            let mut end = End::open(role, Limits::default(), None);
            let wire = end.peers(0x88, &code.to_be_bytes());
            end.read(&wire);
            // RFC 6455 §7.4.1, §7.4.2 and the registry of §11.7.
            let good = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
            let (heard, said) = if good {
                (format!("closed {code} '' by peer"), format!("close {code} ''"))
            } else {
                ("closed 1002 '' by CloseCodeInvalid".to_owned(), "close 1002 ''".to_owned())
            };
            assert_eq!((end.told(), end.said()), (heard, said), "{role:?}");
        }
    }
}

#[test]
fn our_own_close_says_what_may_be_said() {
    let long = "é".repeat(100);
    let cases: &[(u16, &str, &str)] = &[
        (1000, "", "close 1000 ''"),
        (4999, "bye", "close 4999 'bye'"),
        (1005, "never on the wire", "close 1000 'never on the wire'"),
        (1006, "", "close 1000 ''"),
        (1015, "", "close 1000 ''"),
        (0, "", "close 1000 ''"),
        // 123 bytes are left, and a character is not cut.
        (1000, &long, &format!("close 1000 '{}'", "é".repeat(61))),
    ];
    for role in ROLES {
        for (code, reason, want) in cases {
            let mut end = End::open(role, Limits::default(), None);
            end.close(*code, reason);
            end.close(1001, "only the first counts");
            assert_eq!(end.said(), *want);
            assert_eq!(end.send("too late"), Err(SendError::NotOpen));
        }
    }
}

#[test]
fn after_our_close_only_the_peers_counts() {
    for role in ROLES {
        let mut end = End::open(role, Limits::default(), None);
        end.close(4000, "bye");
        end.output();
        let frames: &[(u8, &[u8])] = &[(0x81, b"a"), (0x89, b"b"), (0x8a, b"c"), (0x01, b"d"), (0x88, b"\x03\xe9x")];
        let wire: Vec<u8> = frames.iter().flat_map(|(first, payload)| end.peers(*first, payload)).collect();
        for cut in 0..=wire.len() {
            let mut end = End::open(role, Limits::default(), None);
            end.close(4000, "bye");
            end.output();
            end.read(&wire[..cut]);
            end.read(&wire[cut..]);
            assert_eq!((&*end.told(), &*end.said()), ("closed 4000 '' by local", ""), "{role:?} {cut}");
            assert_eq!(end.connection.next_step(), NextStep::Fin);
        }
    }
}

#[test]
fn what_we_send_reads_as_it_should_in_both_roles() {
    for role in ROLES {
        for kind in [MessageKind::Text, MessageKind::Binary] {
            for len in [0, 1, 125, 126, 127, 1023, 1024, 65_535, 65_536, 200_000] {
                let payload = vec![b'x'; len];
                for shared in [false, true] {
                    let mut end = End::open(role, Limits::default(), None);
                    let body = if shared { Body::Shared(payload.clone().into()) } else { Body::Borrowed(&payload) };
                    end.connection.send(kind, body, &mut end.workspace).expect("room");
                    assert_eq!(end.connection.queued_bytes(), counted(&end.connection));
                    let frames = frames_of(&end.output(), opposite(role));
                    let [(header, sent)] = &frames[..] else { panic!("one frame, not {}", frames.len()) };
                    assert_eq!((sent, header.fin, header.rsv1), (&payload, true, false));
                    assert_eq!(header.mask.is_some(), role == Role::Client, "RFC 6455 §5.1");
                }
            }
        }
    }
}

#[test]
fn a_client_masks_each_frame_with_another_key() {
    let mut end = End::open(Role::Client, Limits::default(), None);
    for _ in 0..100 {
        end.send("the same").expect("room");
    }
    let wire = end.output();
    let keys: std::collections::HashSet<_> =
        frames_of(&wire, Role::Server).into_iter().map(|(header, _)| header.mask).collect();
    assert_eq!(keys.len(), 100);
}

/// Each way of cutting once: whole, in two pieces anywhere, byte by byte.
fn assert_at_every_cut(name: &str, role: Role, wire: &[u8], want_heard: &str, want_said: &str) {
    for cut in 0..=wire.len() {
        assert_reads(name, role, &[&wire[..cut], &wire[cut..]], want_heard, want_said);
    }
    let bytes: Vec<&[u8]> = wire.chunks(1).collect();
    assert_reads(name, role, &bytes, want_heard, want_said);
}

fn assert_reads(name: &str, role: Role, pieces: &[&[u8]], want_heard: &str, want_said: &str) {
    let mut end = End::open(role, Limits::default(), None);
    for piece in pieces {
        end.read(piece);
    }
    let first_len = pieces[0].len();
    assert_eq!(end.told(), want_heard, "{name}, {role:?}, {} pieces, the first of {first_len}", pieces.len());
    assert_eq!(end.said(), want_said, "{name}, {role:?}, {} pieces, the first of {first_len}", pieces.len());
    assert!(!end.connection.is_mid_message());
    assert_eq!(end.connection.heap_bytes(), 0, "{name}: nothing is left behind");
}
