//! Frames that break a rule: each ends the connection with its code, told exactly once (RFC 6455 §7.1.7).

use super::*;

/// First byte and second byte without its mask bit and what follows up to the key; what it violates.
type Case = (&'static str, &'static [u8], Violation);

const HEADERS: &[Case] = &[
    ("RSV1 without an extension", &[0xc1, 0], Violation::ReservedBits),
    ("RSV2", &[0xa1, 0], Violation::ReservedBits),
    ("RSV3", &[0x91, 0], Violation::ReservedBits),
    ("opcode 3", &[0x83, 0], Violation::ReservedOpcode),
    ("opcode 7", &[0x87, 0], Violation::ReservedOpcode),
    ("opcode 11", &[0x8b, 0], Violation::ReservedOpcode),
    ("opcode 15", &[0x8f, 0], Violation::ReservedOpcode),
    ("a ping without FIN", &[0x09, 0], Violation::FragmentedControl),
    ("a pong without FIN", &[0x0a, 0], Violation::FragmentedControl),
    ("a Close without FIN", &[0x08, 0], Violation::FragmentedControl),
    ("a ping of 126 bytes", &[0x89, 126, 0, 126], Violation::ControlTooLong),
    ("a Close of 65,536 bytes", &[0x88, 127, 0, 0, 0, 0, 0, 1, 0, 0], Violation::ControlTooLong),
    ("125 in two bytes", &[0x81, 126, 0, 125], Violation::NonMinimalLength),
    ("65,535 in eight bytes", &[0x81, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff], Violation::NonMinimalLength),
    ("2^63", &[0x81, 127, 0x80, 0, 0, 0, 0, 0, 0, 0], Violation::LengthTooLarge),
    ("a continuation of nothing", &[0x80, 0], Violation::UnexpectedContinuation),
    ("a frame over the limit", &[0x82, 127, 0, 0, 0, 0, 0x7f, 0, 0, 0], Violation::FrameTooBig),
    ("a Close of one byte", &[0x88, 1, 3], Violation::ClosePayloadTooShort),
    ("a Close with code 1005", &[0x88, 2, 3, 0xed], Violation::CloseCodeInvalid),
    ("a close reason that is not UTF-8", &[0x88, 3, 3, 0xe8, 0xff], Violation::CloseReasonNotUtf8),
    ("a text that is not UTF-8", &[0x81, 1, 0xff], Violation::InvalidUtf8),
    ("a text that ends in a character", &[0x81, 1, 0xc3], Violation::InvalidUtf8),
    ("a fragment, then another message", &[0x01, 0, 0x81, 0], Violation::InterleavedMessage),
    ("a fragment, then a binary one", &[0x01, 1, b'a', 0x02, 0], Violation::InterleavedMessage),
];

#[test]
fn each_violation_has_its_code_at_every_cut() {
    for (name, wire, want) in HEADERS {
        assert_violates(name, Role::Client, wire, *want);
        assert_violates(name, Role::Server, &masked(wire), *want);
    }
}

#[test]
fn a_wrong_mask_is_refused_by_both() {
    assert_violates("unmasked", Role::Server, &frame(Role::Server, 0x81, b"Hello"), Violation::UnmaskedFrame);
    assert_violates("masked", Role::Client, &frame(Role::Client, 0x81, b"Hello"), Violation::MaskedFrame);
}

#[test]
fn rsv1_is_refused_where_no_message_begins() {
    for (first, opcode) in [(0xc0, "continuation"), (0xc8, "Close"), (0xc9, "ping"), (0xca, "pong")] {
        for role in ROLES {
            let mut end = End::open(role, Limits::default(), Some(agreement(false, false, 15)));
            let wire = [end.peers(0x41, b"\xf2\x48"), end.peers(first, b"")].concat();
            end.read(&wire);
            assert_eq!(end.told(), "closed 1002 '' by ReservedBits", "{opcode}");
            assert_eq!(end.said(), "close 1002 ''");
        }
    }
}

#[test]
fn text_fails_at_the_byte_that_proves_it_wrong() {
    let texts: &[&[u8]] = &[
        b"\xff",
        b"ok\x80",
        b"\xc0\x80",
        b"\xc3\x28",
        b"\xe2\x82\x28",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xf0\x9f\x98\x41",
        b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80\x65\x64",
    ];
    for text in texts {
        let padded =
            [&b"a long beginning in ASCII so that the wide path runs as well, and a second line of it"[..], text];
        for text in [text, &padded.concat()[..]] {
            for fragment_len in [1, 2, 3, text.len()] {
                assert_fails_at_once(text, fragment_len);
            }
        }
    }
}

/// `text` in fragments of so many bytes, fed byte by byte, followed by more that is never reached.
fn assert_fails_at_once(text: &[u8], fragment_len: usize) {
    let proof = (1..=text.len())
        .find(|&len| std::str::from_utf8(&text[..len]).is_err_and(|error| error.error_len().is_some()))
        .expect("a text that is wrong before its end");
    let mut end = End::server();
    let mut fed = 0;
    for (index, fragment) in text.chunks(fragment_len).enumerate() {
        let first = if index == 0 { 0x01 } else { 0x00 };
        // Announced longer than it is fed: the verdict does not wait for the end of the frame.
        let is_last = fed + fragment.len() >= proof;
        let payload = if is_last { [fragment, &[b'x'; 50]].concat() } else { fragment.to_vec() };
        let wire = end.peers(first, &payload);
        let header_len = wire.len() - payload.len();
        end.read(&wire[..header_len]);
        for (at, byte) in wire[header_len..].iter().enumerate() {
            assert_eq!(end.told(), "", "{} fails before byte {proof}", text.escape_ascii());
            end.read(&[*byte]);
            if fed + at + 1 == proof {
                assert_eq!(end.told(), "closed 1007 '' by InvalidUtf8", "{}", text.escape_ascii());
                assert_eq!(end.said(), "close 1007 ''");
                return;
            }
        }
        fed += fragment.len();
    }
    panic!("{} was not refused", text.escape_ascii());
}

#[test]
fn a_violation_behind_our_close_ends_it_without_a_second_close() {
    for role in ROLES {
        let mut end = End::open(role, Limits::default(), None);
        end.close(1000, "");
        assert_eq!(end.said(), "close 1000 ''");
        let wire = end.peers(0x80, b"");
        end.read(&wire);
        assert_eq!((&*end.told(), &*end.said()), ("closed 1002 '' by UnexpectedContinuation", ""));
    }
}

/// Puts the mask bit and a key of zeros into each frame of `wire`.
fn masked(mut wire: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let [first, second, ..] = *wire {
        let (header_len, payload_len) = match second {
            126 => (4, 0),
            127 => (10, 0),
            len => (2, usize::from(len)),
        };
        out.extend_from_slice(&[first, second | 0x80]);
        out.extend_from_slice(&wire[2..header_len]);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&wire[header_len..header_len + payload_len]);
        wire = &wire[header_len + payload_len..];
    }
    out
}

fn assert_violates(name: &str, role: Role, wire: &[u8], want: Violation) {
    let code = want.close_code();
    for cut in 0..=wire.len() {
        let mut end = End::open(role, Limits::default(), None);
        end.read(&wire[..cut]);
        end.read(&wire[cut..]);
        // Whatever comes later is not looked at.
        end.read(wire);
        end.eof();
        end.reset();
        end.at(10_000);
        assert_eq!(end.told(), format!("closed {code} '' by {want:?}"), "{name}, {role:?}, cut at {cut}");
    }
    let mut end = End::open(role, Limits::default(), None);
    for byte in wire {
        end.read(&[*byte]);
    }
    assert_eq!(end.told(), format!("closed {code} '' by {want:?}"), "{name}, {role:?}, byte by byte");
    assert_eq!(end.said(), format!("close {code} ''"));
    assert_eq!(end.connection.next_step(), NextStep::Fin);
    assert_eq!(end.send("too late"), Err(SendError::NotOpen));
}
