//! permessage-deflate through the connection (RFC 7692): contexts, bombs, fragments, and frames that many share.

use super::*;
use crate::protocol::deflate::Deflater;

/// JSON as it is sent: long enough to be compressed, and different each time.
fn json(number: usize) -> String {
    let row = format!("{{\"number\":{number},\"name\":\"a name that repeats\",\"price\":{}}}", number * 7 % 1000);
    format!("[{}]", vec![row; 12].join(","))
}

fn every_agreement() -> impl Iterator<Item = Agreement> {
    [false, true].into_iter().flat_map(|server| {
        [false, true].into_iter().flat_map(move |client| [9, 12, 15].map(|bits| agreement(server, client, bits)))
    })
}

#[test]
fn messages_come_back_as_they_were_with_every_agreement() {
    for agreement in every_agreement() {
        let mut server = End::open(Role::Server, Limits::default(), Some(agreement));
        let mut client = End::open(Role::Client, Limits::default(), Some(agreement));
        for number in 0..20 {
            let text = if number % 5 == 4 { "short".to_owned() } else { json(number) };
            let want = format!("text {}", quoted(text.as_bytes()));
            server.send(&text).expect("room");
            let wire = server.output();
            assert!(wire.len() < text.len() / 2 || text.len() < 256, "{} of {}", wire.len(), text.len());
            client.read(&wire);
            assert_eq!(client.told(), want, "{agreement:?}");
            client.send(&text).expect("room");
            for byte in client.output() {
                server.read(&[byte]);
            }
            assert_eq!(server.told(), want, "{agreement:?}");
        }
        let contexts = [agreement.server_no_context_takeover, agreement.client_no_context_takeover];
        assert_eq!(server.connection.heap_bytes() == 0, contexts == [true, true], "{agreement:?}");
    }
}

#[test]
fn a_kept_context_makes_the_second_message_smaller() {
    for (takeover, want_smaller) in [(false, false), (true, true)] {
        let mut server = End::open(Role::Server, Limits::default(), Some(agreement(takeover, takeover, 15)));
        let text = json(1);
        server.send(&text).expect("room");
        let first = server.output().len();
        server.send(&text).expect("room");
        assert_eq!(server.output().len() < first / 2, want_smaller);
    }
}

#[test]
fn what_does_not_shrink_goes_as_it_is() {
    let mut random = Random::new(1);
    let noise: Vec<u8> = (0..1000).map(|_| random.next_u64() as u8).collect();
    let mut server = End::open(Role::Server, Limits::default(), Some(agreement(false, false, 15)));
    server.connection.send(MessageKind::Binary, Body::Borrowed(&noise), &mut server.workspace).expect("room");
    let frames = frames_of(&server.output(), Role::Client);
    assert_eq!((frames[0].0.rsv1, &frames[0].1), (false, &noise));
}

#[test]
fn a_bomb_costs_no_more_than_the_limit() {
    let bomb = deflated(&vec![0; 50 << 20]);
    for takeover in [false, true] {
        let limits = Limits { message_bytes_max: 100_000, ..Limits::default() };
        let mut end = End::open(Role::Server, limits, Some(agreement(takeover, takeover, 15)));
        let wire = end.peers(0xc2, &bomb);
        end.read(&wire);
        assert_eq!((&*end.told(), &*end.said()), ("closed 1009 '' by MessageTooBig", "close 1009 ''"));
    }
}

#[test]
fn an_inflated_message_may_be_exactly_as_large_as_the_limit() {
    for (len, want) in [(1000, "binary"), (1001, "closed 1009 '' by MessageTooBig")] {
        let limits = Limits { message_bytes_max: 1000, ..Limits::default() };
        let mut end = End::open(Role::Server, limits, Some(agreement(false, false, 15)));
        let wire = end.peers(0xc2, &deflated(&vec![0; len]));
        end.read(&wire);
        assert!(end.told().starts_with(want), "{len}");
    }
}

#[test]
fn compressed_faults_and_their_codes() {
    let cases: &[(&str, u8, &[u8], &str)] = &[
        ("compressed text that is not UTF-8", 0xc1, &deflated(b"\xff\xfe"), "closed 1007 '' by InvalidUtf8"),
        ("the same as binary", 0xc2, &deflated(b"\xff\xfe"), "binary '\\xff\\xfe'"),
        ("no DEFLATE", 0xc1, b"\x07", "closed 1007 '' by DeflateCorrupt"),
        ("a reference to nothing", 0xc1, b"\xf2\x00\x11\x00\x00", "closed 1007 '' by DeflateCorrupt"),
        ("RFC 7692 §7.2.3.1", 0xc1, b"\xf2\x48\xcd\xc9\xc9\x07\x00", "text 'Hello'"),
        ("RFC 7692 §7.2.3.6, empty", 0xc1, b"\x00", "text ''"),
        ("nothing at all", 0xc1, b"", "text ''"),
        ("not compressed although it may be", 0x81, b"Hello", "text 'Hello'"),
    ];
    for (name, first, payload, want) in cases {
        for takeover in [false, true] {
            for role in ROLES {
                let agreement = Some(agreement(takeover, takeover, 15));
                let wire = frame(opposite(role), *first, payload);
                for cut in 0..=wire.len() {
                    let mut end = End::open(role, Limits::default(), agreement);
                    end.read(&wire[..cut]);
                    end.read(&wire[cut..]);
                    assert_eq!(end.told(), *want, "{name}, {role:?}, cut at {cut}");
                }
            }
        }
    }
}

#[test]
fn a_compressed_message_in_fragments_with_a_ping_between() {
    // RFC 7692 §7.2.3.1: RSV1 on the first fragment only.
    let frames: &[(u8, &[u8])] = &[(0x41, b"\xf2\x48\xcd"), (0x89, b"p"), (0x00, b""), (0x80, b"\xc9\xc9\x07\x00")];
    let wire: Vec<u8> = frames.iter().flat_map(|(first, payload)| frame(Role::Client, *first, payload)).collect();
    for cut in 0..=wire.len() {
        let mut end = End::open(Role::Server, Limits::default(), Some(agreement(false, false, 15)));
        end.read(&wire[..cut]);
        end.read(&wire[cut..]);
        assert_eq!(end.told(), "ping 'p', text 'Hello'", "cut at {cut}");
    }
}

#[test]
fn one_broadcast_reads_as_single_sends_do_for_every_kind_of_peer() {
    let texts = [String::new(), "short".to_owned(), json(3), "é".repeat(2000)];
    for text in texts {
        let want = format!("text {}", quoted(text.as_bytes()));
        let mut broadcast = Broadcast::new(MessageKind::Text, text.clone().into());
        let mut shared = std::collections::HashMap::new();
        for deflate in every_agreement().map(Some).chain([None]) {
            for round in 0..2 {
                let mut peers = ROLES.map(|role| {
                    let end = End::open(role, Limits::default(), deflate);
                    (end, End::open(opposite(role), Limits::default(), deflate))
                });
                for (end, peer) in &mut peers {
                    end.connection.send_broadcast(&mut broadcast, &mut end.workspace).expect("room");
                    let wire = end.output();
                    end.send(&text).expect("room");
                    let single = end.output();
                    peer.read(&wire);
                    peer.read(&single);
                    assert_eq!(peer.told(), format!("{want}, {want}"), "{deflate:?}, round {round}");
                    let is_unique = deflate.is_some_and(|agreed| !agreed.server_no_context_takeover);
                    if end.role == Role::Server && !is_unique {
                        assert_eq!(wire, single, "the same frame");
                        let class = deflate.map(|agreed| agreed.server_max_window_bits);
                        assert_eq!(*shared.entry(class).or_insert_with(|| wire.clone()), wire, "shared in its class");
                    }
                }
            }
        }
    }
}

fn deflated(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Deflater::new(15, 6).deflate(payload, &mut out, false);
    out
}
