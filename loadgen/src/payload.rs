//! What messages say, so that every answer can be checked: a stamp in front, a pattern behind it.
//!
//! The stamp is twelve digits of 64 kinds, the lowest first: eight of the message's number, four of its origin. A
//! message with less room has fewer, and its number is completed from what is expected. The pattern begins at a
//! place that number and origin choose, so that one message's bytes never pass for another's.

use corewire::connection::Random;
use corewire::protocol::MessageKind;

/// The bytes that messages are cut from.
pub(crate) struct Pattern {
    kind: MessageKind,
    bytes: Vec<u8>,
}

/// What a received payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Message number `sequence` of `origin`, with not a byte wrong.
    Good {
        /// Who sent it first.
        origin: u32,
        /// Its number there.
        sequence: u64,
    },
    /// Nothing that was ever sent.
    Corrupt,
}

/// What a reader knows before it looks: completes stamps that had no room.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    /// Who should have sent it.
    pub(crate) origin: u32,
    /// The number that should come next.
    pub(crate) sequence: u64,
    /// How long it should be; `None` if any length will do.
    pub(crate) len: Option<usize>,
}

impl Pattern {
    /// The same of words, which shrink as prose does.
    pub(crate) fn of_words(kind: MessageKind, len_max: usize) -> Self {
        let mut random = Random::new(0x636f_7265_7769_7265);
        let mut bytes = Vec::new();
        while bytes.len() < len_max + PLACES {
            bytes.extend_from_slice(WORDS[random.below(WORDS.len() as u64) as usize].as_bytes());
            bytes.push(b' ');
        }
        bytes.truncate(len_max + PLACES);
        Self { kind, bytes }
    }

    /// Enough for messages of up to `len_max` bytes: letters and digits for text, so that it may stand within JSON, and
    /// any bytes for binary.
    pub(crate) fn new(kind: MessageKind, len_max: usize) -> Self {
        let mut random = Random::new(0x636f_7265_7769_7265);
        let byte = |_| match kind {
            MessageKind::Text => DIGITS[random.below(64) as usize],
            MessageKind::Binary => random.next_u64() as u8,
        };
        Self { kind, bytes: (0..len_max + PLACES).map(byte).collect() }
    }

    /// Text or binary.
    pub(crate) fn kind(&self) -> MessageKind {
        self.kind
    }

    /// Appends message `sequence` of `origin`.
    pub(crate) fn write(&self, origin: u32, sequence: u64, len: usize, out: &mut Vec<u8>) {
        let stamp = stamp(origin, sequence);
        let stamp_len = len.min(STAMP_LEN);
        out.extend_from_slice(&stamp[..stamp_len]);
        out.extend_from_slice(self.body(origin, sequence, len - stamp_len));
    }

    /// Reads a message and compares every byte of it.
    pub(crate) fn read(&self, payload: &[u8], expected: Expected) -> Content {
        if expected.len.is_some_and(|len| len != payload.len()) {
            return Content::Corrupt;
        }
        let (front, body) = payload.split_at(payload.len().min(STAMP_LEN));
        let (low, high) = front.split_at(front.len().min(SEQUENCE_DIGITS));
        let (Some(low), Some(high)) = (number(low), number(high)) else { return Content::Corrupt };
        let digits = front.len().min(SEQUENCE_DIGITS);
        let sequence = nearest(expected.sequence, low, 1 << (6 * digits));
        let origin = if front.len() == STAMP_LEN { high as u32 } else { expected.origin };
        if front.len() < STAMP_LEN && front != &stamp(origin, sequence)[..front.len()] {
            return Content::Corrupt;
        }
        if body == self.body(origin, sequence, body.len()) {
            Content::Good { origin, sequence }
        } else {
            Content::Corrupt
        }
    }

    fn body(&self, origin: u32, sequence: u64, len: usize) -> &[u8] {
        let place = (sequence.wrapping_mul(37).wrapping_add(u64::from(origin) * 101)) as usize % PLACES;
        &self.bytes[place..place + len]
    }
}

fn stamp(origin: u32, sequence: u64) -> [u8; STAMP_LEN] {
    std::array::from_fn(|at| {
        let sextet = match at {
            0..SEQUENCE_DIGITS => sequence >> (6 * at),
            _ => u64::from(origin) >> (6 * (at - SEQUENCE_DIGITS)),
        };
        DIGITS[(sextet & 63) as usize]
    })
}

/// The number that digits say, the lowest first.
fn number(digits: &[u8]) -> Option<u64> {
    let mut value = 0;
    for (at, &digit) in digits.iter().enumerate() {
        let sextet = VALUES[usize::from(digit)];
        if sextet == NO_DIGIT {
            return None;
        }
        value |= u64::from(sextet) << (6 * at);
    }
    Some(value)
}

/// The number closest to `near` that is `low` modulo `modulus`.
fn nearest(near: u64, low: u64, modulus: u64) -> u64 {
    let base = near - near % modulus + low;
    let half = modulus / 2;
    if base > near + half && base >= modulus {
        base - modulus
    } else if base + half < near {
        base + modulus
    } else {
        base
    }
}

/// What messages that are to shrink are made of.
const WORDS: [&str; 32] = [
    "account",
    "after",
    "amount",
    "before",
    "between",
    "buyer",
    "city",
    "currency",
    "customer",
    "delivered",
    "from",
    "history",
    "item",
    "message",
    "name",
    "number",
    "offered",
    "order",
    "paid",
    "price",
    "quantity",
    "received",
    "sent",
    "seller",
    "status",
    "street",
    "the",
    "time",
    "to",
    "update",
    "value",
    "with",
];
/// Digits of a stamp. A message that is shorter says less.
pub(crate) const STAMP_LEN: usize = 12;
/// Those of them that number the message.
const SEQUENCE_DIGITS: usize = 8;
/// Places where a message's pattern may begin: a prime, so that neighbours differ.
const PLACES: usize = 4093;
/// The largest origin that a stamp has room for.
pub(crate) const ORIGIN_MAX: u32 = (1 << 24) - 1;

const DIGITS: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_";
const NO_DIGIT: u8 = 0xFF;
const VALUES: [u8; 256] = {
    let mut values = [NO_DIGIT; 256];
    let mut at = 0;
    while at < 64 {
        values[DIGITS[at] as usize] = at as u8;
        at += 1;
    }
    values
};

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [MessageKind; 2] = [MessageKind::Text, MessageKind::Binary];

    #[test]
    fn every_length_comes_back() {
        for kind in KINDS {
            let pattern = Pattern::new(kind, 300);
            for len in 0..300 {
                for (origin, sequence) in [(0, 0), (1, 1), (77, 63), (77, 64), (ORIGIN_MAX, 123_456_789)] {
                    let mut payload = Vec::new();
                    pattern.write(origin, sequence, len, &mut payload);
                    assert_eq!(payload.len(), len);
                    let expected = Expected { origin, sequence, len: Some(len) };
                    assert_eq!(pattern.read(&payload, expected), Content::Good { origin, sequence }, "{len} bytes");
                }
            }
        }
    }

    #[test]
    fn words_come_back_too_and_no_message_passes_for_another() {
        let pattern = Pattern::of_words(MessageKind::Text, 300);
        let payload = |sequence| {
            let mut payload = Vec::new();
            pattern.write(3, sequence, 300, &mut payload);
            payload
        };
        let expected = Expected { origin: 3, sequence: 8, len: Some(300) };
        assert_eq!(pattern.read(&payload(8), expected), Content::Good { origin: 3, sequence: 8 });
        for other in (0..1000).filter(|&other| other != 8) {
            let mut mixed = payload(8)[..STAMP_LEN].to_vec();
            mixed.extend_from_slice(&payload(other)[STAMP_LEN..]);
            assert_eq!(pattern.read(&mixed, expected), Content::Corrupt, "{other}");
        }
    }

    #[test]
    fn one_wrong_bit_is_found_wherever_it_is() {
        for kind in KINDS {
            let pattern = Pattern::new(kind, 64);
            let mut payload = Vec::new();
            pattern.write(5, 1000, 64, &mut payload);
            let expected = Expected { origin: 5, sequence: 1000, len: Some(64) };
            for bit in 0..64 * 8 {
                payload[bit / 8] ^= 1 << (bit % 8);
                let read = pattern.read(&payload, expected);
                assert_ne!(read, Content::Good { origin: 5, sequence: 1000 }, "bit {bit}");
                payload[bit / 8] ^= 1 << (bit % 8);
            }
            assert_eq!(pattern.read(&payload[..63], expected), Content::Corrupt, "too short");
        }
    }

    #[test]
    fn a_short_stamp_is_completed_from_what_is_expected() {
        let pattern = Pattern::new(MessageKind::Binary, 64);
        for near in [0_u64, 5, 63, 64, 100, 1 << 20] {
            for off in -20_i64..=20 {
                let Some(sequence) = near.checked_add_signed(off) else { continue };
                let mut payload = Vec::new();
                pattern.write(9, sequence, 1, &mut payload);
                let expected = Expected { origin: 9, sequence: near, len: Some(1) };
                assert_eq!(pattern.read(&payload, expected), Content::Good { origin: 9, sequence }, "{near} {off}");
            }
        }
    }

    #[test]
    fn text_is_text() {
        let mut payload = Vec::new();
        Pattern::new(MessageKind::Text, 5000).write(3, 4, 5000, &mut payload);
        assert!(payload.is_ascii());
    }
}
