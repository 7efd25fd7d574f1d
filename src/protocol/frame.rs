//! The frame header (RFC 6455 §5.2): bytes to a value that keeps the rules, and back.
//!
//! Knows one frame. What may follow what (§5.4) is for whoever remembers the frame before.

use super::{MessageKind, Opcode, Violation};

/// What stands before a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// The last frame of its message.
    pub fin: bool,
    /// The message is compressed; on the first frame of a message only (RFC 7692 §6).
    pub rsv1: bool,
    /// What the frame is for.
    pub opcode: Opcode,
    /// The masking key: there in a client's frames, and only there (RFC 6455 §5.1).
    pub mask: Option<[u8; 4]>,
    /// Bytes that follow the header. Below 2^63 (RFC 6455 §5.2).
    pub payload_len: u64,
}

/// Which end we are: it decides what must be masked (RFC 6455 §5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// We read what a client wrote: masked.
    Server,
    /// We read what a server wrote: unmasked.
    Client,
}

/// What holds for every frame of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameRules {
    /// The end that reads.
    pub role: Role,
    /// Whether an extension that uses RSV1 was agreed on (RFC 7692 §6).
    pub rsv1_allowed: bool,
    /// Largest announced payload that is accepted.
    pub frame_bytes_max: u64,
}

/// Decodes the header that `bytes` begin with, and returns it with its length.
///
/// `None` means that the header goes on and nothing in it is wrong yet. A violation is reported at the first byte that
/// proves it, so a prefix of a header never gets another verdict than the whole.
#[inline]
pub fn decode_header(bytes: &[u8], rules: &FrameRules) -> Result<Option<(FrameHeader, usize)>, Violation> {
    let Some(&first) = bytes.first() else {
        return Ok(None);
    };
    let (fin, rsv1, opcode) = check_first_byte(first, rules)?;
    let Some(&second) = bytes.get(1) else {
        return Ok(None);
    };
    check_second_byte(second, opcode, rules)?;
    let Some((payload_len, at)) = decode_length(second & LENGTH_BITS, bytes, rules)? else {
        return Ok(None);
    };
    if second & MASK_BIT == 0 {
        return Ok(Some((FrameHeader { fin, rsv1, opcode, mask: None, payload_len }, at)));
    }
    let Some(key) = bytes[at..].first_chunk::<4>() else {
        return Ok(None);
    };
    Ok(Some((FrameHeader { fin, rsv1, opcode, mask: Some(*key), payload_len }, at + 4)))
}

/// A frame that is a whole message and has come whole, as nearly all do that a server reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WholeFrame {
    /// What its bytes are.
    pub kind: MessageKind,
    /// The masking key.
    pub key: [u8; 4],
    /// Bytes before the payload.
    pub header_len: usize,
    /// Bytes of payload, all of which are there.
    pub payload_len: usize,
}

/// Decodes the frame that `bytes` begin with, if it is all of a message: unfragmented, not compressed, masked, shorter than
/// 64 KiB, and there up to its last byte. `None` says that it is something else, good or bad, for [`decode_header`] to judge.
///
/// It is the same decision with less to carry: 32 echoing connections with 16 messages under way each cost 0.95 of what they cost
/// with [`decode_header`] alone.
#[inline]
pub fn decode_whole(bytes: &[u8]) -> Option<WholeFrame> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    let kind = match first {
        TEXT_WHOLE => MessageKind::Text,
        BINARY_WHOLE => MessageKind::Binary,
        _ => return None,
    };
    let (payload_len, at) = match second ^ MASK_BIT {
        short if u64::from(short) <= LENGTH_7_MAX => (usize::from(short), 2),
        LENGTH_16_MARK => {
            let len = u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?);
            (usize::from(len), 4)
        }
        _ => return None,
    };
    let header_len = at + 4;
    let is_minimal = at == 2 || payload_len as u64 > LENGTH_7_MAX;
    let key = *bytes.get(at..)?.first_chunk()?;
    (is_minimal && bytes.len() - header_len >= payload_len).then_some(WholeFrame { kind, key, header_len, payload_len })
}

/// Writes a header and returns its length.
///
/// Writes whatever it is given: keeping the rules of frames is the caller's part. The length takes the fewest bytes
/// that hold it (RFC 6455 §5.2).
#[inline]
pub fn encode_header(header: &FrameHeader, out: &mut [u8; HEADER_LEN_MAX]) -> usize {
    debug_assert!(header.payload_len < 1 << 63, "RFC 6455 §5.2: the highest bit of the length is zero");
    out[0] = (header.fin as u8) << 7 | (header.rsv1 as u8) << 6 | header.opcode.to_nibble();
    let mask_bit = if header.mask.is_some() { MASK_BIT } else { 0 };
    let at = match header.payload_len {
        len @ 0..=LENGTH_7_MAX => {
            out[1] = mask_bit | len as u8;
            2
        }
        len @ ..=LENGTH_16_MAX => {
            out[1] = mask_bit | LENGTH_16_MARK;
            out[2..4].copy_from_slice(&(len as u16).to_be_bytes());
            4
        }
        len => {
            out[1] = mask_bit | LENGTH_64_MARK;
            out[2..10].copy_from_slice(&len.to_be_bytes());
            10
        }
    };
    let Some(key) = header.mask else { return at };
    out[at..at + 4].copy_from_slice(&key);
    at + 4
}

/// Writes a header as a server sends it, without a masking key (RFC 6455 §5.1), and returns its length.
#[inline]
pub fn encode_server_header(
    opcode: Opcode,
    fin: bool,
    rsv1: bool,
    payload_len: u64,
    out: &mut [u8; HEADER_LEN_MAX],
) -> usize {
    encode_header(&FrameHeader { fin, rsv1, opcode, mask: None, payload_len }, out)
}

#[inline]
fn check_first_byte(first: u8, rules: &FrameRules) -> Result<(bool, bool, Opcode), Violation> {
    let fin = first & FIN_BIT != 0;
    let rsv1 = first & RSV1_BIT != 0;
    // RFC 6455 §5.2: a nonzero bit without an extension that defines it fails the connection.
    if first & RSV23_BITS != 0 || (rsv1 && !rules.rsv1_allowed) {
        return Err(Violation::ReservedBits);
    }
    // RFC 6455 §5.2: an unknown opcode fails the connection.
    let Some(opcode) = Opcode::from_nibble(first & OPCODE_BITS) else {
        return Err(Violation::ReservedOpcode);
    };
    // RFC 7692 §6.1: only the first frame of a data message carries the bit.
    if rsv1 && (opcode.is_control() || opcode == Opcode::Continuation) {
        return Err(Violation::ReservedBits);
    }
    // RFC 6455 §5.5: control frames MUST NOT be fragmented.
    if opcode.is_control() && !fin {
        return Err(Violation::FragmentedControl);
    }
    Ok((fin, rsv1, opcode))
}

#[inline]
fn check_second_byte(second: u8, opcode: Opcode, rules: &FrameRules) -> Result<(), Violation> {
    // RFC 6455 §5.1: a server closes on an unmasked frame, a client on a masked one.
    match (rules.role, second & MASK_BIT != 0) {
        (Role::Server, true) | (Role::Client, false) => {}
        (Role::Server, false) => return Err(Violation::UnmaskedFrame),
        (Role::Client, true) => return Err(Violation::MaskedFrame),
    }
    // RFC 6455 §5.5: at most 125 bytes, so both marks of longer lengths prove it too.
    if opcode.is_control() && (second & LENGTH_BITS) as usize > CONTROL_LEN_MAX {
        return Err(Violation::ControlTooLong);
    }
    Ok(())
}

/// The payload length and where it ends in `bytes`.
#[inline]
fn decode_length(short: u8, bytes: &[u8], rules: &FrameRules) -> Result<Option<(u64, usize)>, Violation> {
    match short {
        LENGTH_16_MARK => decode_long_length::<2>(&bytes[2..], LENGTH_7_MAX, rules),
        LENGTH_64_MARK => decode_long_length::<8>(&bytes[2..], LENGTH_16_MAX, rules),
        short => {
            let len = u64::from(short);
            check_length(len, len, None, rules)?;
            Ok(Some((len, 2)))
        }
    }
}

/// A length in `N` bytes, of which `known` may only have the first.
#[inline]
fn decode_long_length<const N: usize>(
    known: &[u8],
    shorter_form_max: u64,
    rules: &FrameRules,
) -> Result<Option<(u64, usize)>, Violation> {
    let whole = known.first_chunk::<N>();
    let (least, most) = match whole {
        Some(whole) => {
            let len = big_endian(whole);
            (len, len)
        }
        None => length_bounds::<N>(known),
    };
    check_length(least, most, Some(shorter_form_max), rules)?;
    Ok(whole.map(|_| (least, 2 + N)))
}

/// The smallest and the largest length that the first of `N` bytes can still become.
#[cold]
fn length_bounds<const N: usize>(known: &[u8]) -> (u64, u64) {
    let filled = |filler| {
        let mut whole = [filler; N];
        whole[..known.len()].copy_from_slice(known);
        big_endian(&whole)
    };
    (filled(0x00), filled(0xFF))
}

#[inline]
fn big_endian<const N: usize>(bytes: &[u8; N]) -> u64 {
    bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Judges a length of which only bounds are known. The order is that of the bytes that prove each rule.
#[inline]
fn check_length(least: u64, most: u64, shorter_form_max: Option<u64>, rules: &FrameRules) -> Result<(), Violation> {
    // RFC 6455 §5.2: the most significant bit MUST be 0.
    if least >= 1 << 63 {
        return Err(Violation::LengthTooLarge);
    }
    // RFC 6455 §5.2: the minimal number of bytes MUST be used.
    if shorter_form_max.is_some_and(|max| most <= max) {
        return Err(Violation::NonMinimalLength);
    }
    if least > rules.frame_bytes_max {
        return Err(Violation::FrameTooBig);
    }
    Ok(())
}

/// Longest header: two bytes, eight of length, four of masking key.
pub const HEADER_LEN_MAX: usize = 14;
/// Longest payload of a control frame (RFC 6455 §5.5).
pub const CONTROL_LEN_MAX: usize = 125;

/// First bytes of frames that are whole messages.
const TEXT_WHOLE: u8 = FIN_BIT | 1;
const BINARY_WHOLE: u8 = FIN_BIT | 2;
const FIN_BIT: u8 = 0x80;
const RSV1_BIT: u8 = 0x40;
const RSV23_BITS: u8 = 0x30;
const OPCODE_BITS: u8 = 0x0F;
const MASK_BIT: u8 = 0x80;
const LENGTH_BITS: u8 = 0x7F;
/// Stands in place of the length when two bytes of it follow.
const LENGTH_16_MARK: u8 = 126;
/// Stands in place of the length when eight bytes of it follow.
const LENGTH_64_MARK: u8 = 127;
const LENGTH_7_MAX: u64 = 125;
const LENGTH_16_MAX: u64 = u16::MAX as u64;

const _: () = {
    assert!(HEADER_LEN_MAX == 2 + size_of::<u64>() + 4);
    assert!(CONTROL_LEN_MAX as u64 == LENGTH_7_MAX);
};

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: FrameRules = FrameRules { role: Role::Server, rsv1_allowed: false, frame_bytes_max: u64::MAX };
    const CLIENT: FrameRules = FrameRules { role: Role::Client, ..SERVER };

    fn every_rules() -> impl Iterator<Item = FrameRules> {
        [Role::Server, Role::Client].into_iter().flat_map(|role| {
            [false, true].into_iter().flat_map(move |rsv1_allowed| {
                [0, 50, 125, 126, 1000, 65_535, 65_536, 1 << 40, u64::MAX].map(|frame_bytes_max| FrameRules {
                    role,
                    rsv1_allowed,
                    frame_bytes_max,
                })
            })
        })
    }

    /// Every prefix is incomplete until the verdict of the whole, and gets no other.
    fn assert_same_verdict_at_every_cut(wire: &[u8], rules: &FrameRules) {
        let whole = decode_header(wire, rules);
        let mut decided = false;
        for cut in 0..=wire.len() {
            let got = decode_header(&wire[..cut], rules);
            assert!(got == Ok(None) && !decided || got == whole, "{wire:02x?} cut at {cut}: {got:?}, {whole:?}");
            decided = got != Ok(None);
        }
    }

    #[test]
    fn the_examples_of_rfc_6455_section_5_7() {
        let key = Some([0x37, 0xfa, 0x21, 0x3d]);
        let plain = FrameHeader { fin: true, rsv1: false, opcode: Opcode::Text, mask: None, payload_len: 5 };
        let cases: &[(&str, &[u8], &FrameRules, FrameHeader)] = &[
            ("unmasked text", &[0x81, 0x05], &CLIENT, plain),
            ("masked text", &[0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d], &SERVER, FrameHeader { mask: key, ..plain }),
            ("first fragment", &[0x01, 0x03], &CLIENT, FrameHeader { fin: false, payload_len: 3, ..plain }),
            (
                "last fragment",
                &[0x80, 0x02],
                &CLIENT,
                FrameHeader { opcode: Opcode::Continuation, payload_len: 2, ..plain },
            ),
            ("ping", &[0x89, 0x05], &CLIENT, FrameHeader { opcode: Opcode::Ping, ..plain }),
            (
                "masked pong",
                &[0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d],
                &SERVER,
                FrameHeader { opcode: Opcode::Pong, mask: key, ..plain },
            ),
            (
                "256 bytes",
                &[0x82, 0x7e, 0x01, 0x00],
                &CLIENT,
                FrameHeader { opcode: Opcode::Binary, payload_len: 256, ..plain },
            ),
            (
                "64 KiB",
                &[0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0],
                &CLIENT,
                FrameHeader { opcode: Opcode::Binary, payload_len: 65_536, ..plain },
            ),
        ];
        for &(name, wire, rules, want) in cases {
            assert_eq!(decode_header(wire, rules), Ok(Some((want, wire.len()))), "{name}");
            assert_same_verdict_at_every_cut(wire, rules);
            let mut out = [0; HEADER_LEN_MAX];
            let len = encode_header(&want, &mut out);
            assert_eq!(&out[..len], wire, "{name}");
        }
    }

    #[test]
    fn violations_and_the_byte_that_proves_them() {
        let rsv1 = FrameRules { rsv1_allowed: true, ..SERVER };
        let small = FrameRules { frame_bytes_max: 1000, ..SERVER };
        let tiny = FrameRules { frame_bytes_max: 50, ..SERVER };
        // The last byte of each is the one that proves it.
        let cases: &[(&[u8], &FrameRules, Violation)] = &[
            (&[0xc1], &SERVER, Violation::ReservedBits),
            (&[0xa1], &rsv1, Violation::ReservedBits),
            (&[0x91], &rsv1, Violation::ReservedBits),
            (&[0xc0], &rsv1, Violation::ReservedBits),
            (&[0xc8], &rsv1, Violation::ReservedBits),
            (&[0xc9], &rsv1, Violation::ReservedBits),
            (&[0xca], &rsv1, Violation::ReservedBits),
            (&[0x83], &SERVER, Violation::ReservedOpcode),
            (&[0x8b], &SERVER, Violation::ReservedOpcode),
            (&[0x08], &SERVER, Violation::FragmentedControl),
            (&[0x09], &SERVER, Violation::FragmentedControl),
            (&[0x0a], &SERVER, Violation::FragmentedControl),
            (&[0x81, 0x00], &SERVER, Violation::UnmaskedFrame),
            (&[0x81, 0x80], &CLIENT, Violation::MaskedFrame),
            (&[0x88, 0xfe], &SERVER, Violation::ControlTooLong),
            (&[0x89, 0xff], &SERVER, Violation::ControlTooLong),
            (&[0x81, 0xfe, 0x00, 0x7d], &SERVER, Violation::NonMinimalLength),
            (&[0x81, 0xff, 0, 0, 0, 0, 0, 0], &SERVER, Violation::NonMinimalLength),
            (&[0x81, 0xff, 0x80], &SERVER, Violation::LengthTooLarge),
            (&[0x81, 0xff, 0x80], &small, Violation::LengthTooLarge),
            (&[0x81, 0xff, 0x01], &small, Violation::FrameTooBig),
            (&[0x81, 0xff, 0, 0, 0, 0, 0, 1], &small, Violation::FrameTooBig),
            (&[0x81, 0xfe, 0x04], &small, Violation::FrameTooBig),
            (&[0x81, 0xfe, 0x03, 0xe9], &small, Violation::FrameTooBig),
            (&[0x81, 0xfe, 0x01], &tiny, Violation::FrameTooBig),
            (&[0x81, 0xfe, 0x00, 0x33], &tiny, Violation::NonMinimalLength),
            (&[0x81, 0xb3], &tiny, Violation::FrameTooBig),
        ];
        for &(wire, rules, want) in cases {
            let before = &wire[..wire.len() - 1];
            assert_eq!(decode_header(before, rules), Ok(None), "{wire:02x?} one byte earlier");
            assert_eq!(decode_header(wire, rules), Err(want), "{wire:02x?}");
            let longer = [wire, &[0; HEADER_LEN_MAX]].concat();
            assert_eq!(decode_header(&longer, rules), Err(want), "{wire:02x?} and more");
        }
    }

    /// Written as the RFC's prose, not as the decoder: the twin for the whole domain of two bytes.
    fn obvious_two_bytes(first: u8, second: u8, rules: &FrameRules) -> Option<Violation> {
        let (opcode, len) = (first & 0x0f, u64::from(second & 0x7f));
        let control = [8, 9, 10].contains(&opcode);
        let starts_message = [1, 2].contains(&opcode);
        let rsv1_wrong = first & 0x40 != 0 && !(rules.rsv1_allowed && starts_message);
        let reserved = ![0, 1, 2, 8, 9, 10].contains(&opcode);
        let rsv1_unheard_of = first & 0x40 != 0 && !rules.rsv1_allowed;
        let wrongs = [
            (first & 0x30 != 0 || rsv1_unheard_of, Violation::ReservedBits),
            (reserved, Violation::ReservedOpcode),
            (rsv1_wrong, Violation::ReservedBits),
            (control && first & 0x80 == 0, Violation::FragmentedControl),
            (rules.role == Role::Server && second & 0x80 == 0, Violation::UnmaskedFrame),
            (rules.role == Role::Client && second & 0x80 != 0, Violation::MaskedFrame),
            (control && len > 125, Violation::ControlTooLong),
            (len < 126 && len > rules.frame_bytes_max, Violation::FrameTooBig),
        ];
        wrongs.into_iter().find(|(wrong, _)| *wrong).map(|(_, violation)| violation)
    }

    /// What [`decode_whole`] should say, by way of [`decode_header`].
    fn obvious_whole(bytes: &[u8]) -> Option<WholeFrame> {
        let (header, header_len) = decode_header(bytes, &SERVER).ok()??;
        let kind = match header.opcode {
            Opcode::Text => MessageKind::Text,
            Opcode::Binary => MessageKind::Binary,
            _ => return None,
        };
        let payload_len = header.payload_len as usize;
        let is_whole = header.fin && payload_len < 65_536 && payload_len <= bytes.len() - header_len;
        is_whole.then_some(WholeFrame { kind, key: header.mask?, header_len, payload_len })
    }

    #[test]
    fn whole_frames_are_those_of_which_the_header_says_so() {
        let mut whole_count = 0;
        for (first, second) in (0..=255).flat_map(|first| (0..=255).map(move |second| (first, second))) {
            for extended in [0_u16, 125, 126, 1000, 65_535] {
                let len = match second & 0x7f {
                    126 => usize::from(extended),
                    127 => 10,
                    short => usize::from(short),
                };
                let mut wire = vec![0; 14 + len];
                wire[..2].copy_from_slice(&[first, second]);
                wire[2..4].copy_from_slice(&extended.to_be_bytes());
                for cut in (0..=14).chain([5, 6, 7, 8].map(|more| len + more)).chain([wire.len()]) {
                    let cut = cut.min(wire.len());
                    let got = decode_whole(&wire[..cut]);
                    assert_eq!(got, obvious_whole(&wire[..cut]), "{:02x?} cut at {cut}", &wire[..4]);
                    whole_count += usize::from(got.is_some());
                }
            }
        }
        assert!(whole_count > 5_000, "{whole_count}");
    }

    #[test]
    fn all_pairs_of_first_bytes_under_all_rules() {
        for rules in every_rules() {
            for first in 0..=255 {
                for second in 0..=255 {
                    let got = decode_header(&[first, second], &rules);
                    assert_eq!(
                        got.err(),
                        obvious_two_bytes(first, second, &rules),
                        "{first:02x} {second:02x} {rules:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn every_cut_of_every_length_form_under_all_rules() {
        let lengths =
            [0, 1, 125, 126, 127, 255, 256, 999, 1000, 1001, 65_535, 65_536, 1 << 40, (1 << 63) - 1, 1 << 63, u64::MAX];
        for rules in every_rules() {
            for first in [0x81, 0xc2, 0x00, 0x89] {
                for mask_bit in [0, 0x80] {
                    for len in lengths {
                        let short = [&[first, mask_bit | len.min(125) as u8][..], &[1, 2, 3, 4]].concat();
                        let medium =
                            [&[first, mask_bit | 126][..], &(len as u16).to_be_bytes(), &[1, 2, 3, 4]].concat();
                        let long = [&[first, mask_bit | 127][..], &len.to_be_bytes(), &[1, 2, 3, 4]].concat();
                        for wire in [short, medium, long] {
                            assert_same_verdict_at_every_cut(&wire, &rules);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_encoded_decodes_to_itself() {
        let lengths = (0..300).chain(65_400..65_700).chain((17..63).map(|shift| 1 << shift)).chain([(1 << 63) - 1]);
        for payload_len in lengths {
            for (role, mask) in [(Role::Client, None), (Role::Server, Some([1, 2, 3, 4]))] {
                for (fin, rsv1, opcode) in [(true, true, Opcode::Text), (false, false, Opcode::Continuation)] {
                    let header = FrameHeader { fin, rsv1, opcode, mask, payload_len };
                    let mut out = [0; HEADER_LEN_MAX];
                    let len = encode_header(&header, &mut out);
                    let rules = FrameRules { role, rsv1_allowed: true, frame_bytes_max: u64::MAX };
                    assert_eq!(decode_header(&out, &rules), Ok(Some((header, len))));
                }
            }
        }
    }
}
