//! Any bytes as frames: one verdict however they are cut, headers that encode back to themselves, and the fast ways
//! against the obvious ones.
#![no_main]

use corewire::protocol::frame::{decode_header, encode_header};
use corewire::protocol::utf8::{Utf8Stream, validate};
use corewire::protocol::{CloseCode, FrameRules, HEADER_LEN_MAX, Opcode, Role, close, mask};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [setting, wire @ ..] = data else { return };
    let rules = FrameRules {
        role: if setting & 1 == 0 {
            Role::Server
        } else {
            Role::Client
        },
        rsv1_allowed: setting & 2 != 0,
        frame_bytes_max: [50, 1000, 100_000, u64::MAX][(setting >> 2 & 3) as usize],
    };
    let piece_len = 1 + (setting >> 4) as usize;
    let mut rest = wire;
    while let Some((opcode, payload, after)) = read_frame(rest, &rules) {
        check_payload(opcode, &payload, piece_len);
        rest = after;
    }
    check_utf8(wire, piece_len);
});

/// The next frame, unmasked, if it is there whole and no violation.
fn read_frame<'w>(wire: &'w [u8], rules: &FrameRules) -> Option<(Opcode, Vec<u8>, &'w [u8])> {
    let whole = decode_header(wire, rules);
    for cut in 0..wire.len().min(HEADER_LEN_MAX) {
        let got = decode_header(&wire[..cut], rules);
        assert!(
            got == Ok(None) || got == whole,
            "cut at {cut}: {got:?}, whole {whole:?}"
        );
    }
    let (header, len) = whole.ok()??;
    assert!(header.payload_len <= rules.frame_bytes_max && header.payload_len < 1 << 63);
    let mut encoded = [0; HEADER_LEN_MAX];
    let encoded_len = encode_header(&header, &mut encoded);
    assert_eq!(&encoded[..encoded_len], &wire[..len]);
    let payload = wire[len..].get(..usize::try_from(header.payload_len).ok()?)?;
    let after = &wire[len + payload.len()..];
    Some((
        header.opcode,
        unmask(payload, header.mask.unwrap_or_default()),
        after,
    ))
}

fn unmask(payload: &[u8], key: [u8; 4]) -> Vec<u8> {
    let mut unmasked = payload.to_vec();
    mask::apply(&mut unmasked, key);
    let obvious = payload
        .iter()
        .zip(key.iter().cycle())
        .map(|(byte, k)| byte ^ k);
    assert!(unmasked.iter().copied().eq(obvious));
    unmasked
}

fn check_payload(opcode: Opcode, payload: &[u8], piece_len: usize) {
    match opcode {
        Opcode::Text | Opcode::Continuation => check_utf8(payload, piece_len),
        Opcode::Close => check_close(payload),
        Opcode::Binary | Opcode::Ping | Opcode::Pong => {}
    }
}

fn check_close(payload: &[u8]) {
    let Ok(frame) = close::parse_close(payload) else {
        return;
    };
    let mut out = [0; close::CLOSE_LEN_MAX];
    let len = close::encode_close(frame.code, frame.reason, &mut out);
    assert_eq!(frame.code == CloseCode::NO_STATUS, payload.is_empty());
    assert_eq!(&out[..len], payload);
}

fn check_utf8(text: &[u8], piece_len: usize) {
    let obvious = std::str::from_utf8(text);
    assert_eq!(validate(text).is_ok(), obvious.is_ok());
    let mut stream = Utf8Stream::default();
    let pushed = text
        .chunks(piece_len)
        .try_for_each(|piece| stream.push(piece));
    assert_eq!(
        pushed.and_then(|()| stream.finish()).is_ok(),
        obvious.is_ok()
    );
}
