//! UTF-8 (RFC 3629) as text messages need it: in pieces, and refused at the first byte that proves it wrong.

/// Bytes that are not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are not UTF-8 (RFC 3629 §4)")]
pub struct InvalidUtf8;

/// Validates a text that comes in pieces, cut anywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Utf8Stream {
    /// The character that the last piece ended in, if it ended inside one.
    open: Option<Open>,
}

/// A character whose first bytes are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Open {
    /// Bytes still to come, at least 1.
    missing: u8,
    /// Least value of the next byte.
    least: u8,
    /// Largest value of the next byte.
    most: u8,
}

impl Utf8Stream {
    /// Takes the next piece. An error is final: it is reported in the call that brings the first byte that cannot
    /// continue a valid text, and the stream is of no use after it.
    #[inline]
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), InvalidUtf8> {
        let bytes = self.close_open(bytes)?;
        if is_short_ascii(bytes) {
            return Ok(());
        }
        match simdutf8::compat::from_utf8(bytes) {
            Ok(_) => Ok(()),
            // No byte is wrong: the piece ends inside a character.
            Err(error) if error.error_len().is_none() => self.begin(&bytes[error.valid_up_to()..]),
            Err(_) => Err(InvalidUtf8),
        }
    }

    /// Whether the text may end here: not inside a character.
    pub fn finish(&self) -> Result<(), InvalidUtf8> {
        match self.open {
            None => Ok(()),
            Some(_) => Err(InvalidUtf8),
        }
    }

    /// Brings the open character, if there is one, to its end or to the end of `bytes`; returns what is left.
    #[inline]
    fn close_open<'b>(&mut self, mut bytes: &'b [u8]) -> Result<&'b [u8], InvalidUtf8> {
        while let (Some(open), [byte, rest @ ..]) = (self.open, bytes) {
            self.open = open.step(*byte)?;
            bytes = rest;
        }
        Ok(bytes)
    }

    /// Remembers the beginning of a character that `tail` is.
    fn begin(&mut self, tail: &[u8]) -> Result<(), InvalidUtf8> {
        let Some((first, rest)) = tail.split_first() else {
            return Ok(());
        };
        self.open = Some(Open::after_first_byte(*first).ok_or(InvalidUtf8)?);
        self.close_open(rest).map(drop)
    }
}

impl Open {
    /// RFC 3629 §4, for the bytes that begin a character of several.
    fn after_first_byte(first: u8) -> Option<Self> {
        let (missing, least, most) = match first {
            0xC2..=0xDF => (1, 0x80, 0xBF),
            // Below A0 it would be an overlong form.
            0xE0 => (2, 0xA0, 0xBF),
            0xE1..=0xEC => (2, 0x80, 0xBF),
            // Above 9F it would be a surrogate.
            0xED => (2, 0x80, 0x9F),
            0xEE..=0xEF => (2, 0x80, 0xBF),
            // Below 90 it would be an overlong form.
            0xF0 => (3, 0x90, 0xBF),
            0xF1..=0xF3 => (3, 0x80, 0xBF),
            // Above 8F it would be beyond U+10FFFF.
            0xF4 => (3, 0x80, 0x8F),
            _ => return None,
        };
        Some(Self { missing, least, most })
    }

    /// The character after one more byte: `None` if that was its last.
    fn step(self, byte: u8) -> Result<Option<Self>, InvalidUtf8> {
        if !(self.least..=self.most).contains(&byte) {
            return Err(InvalidUtf8);
        }
        Ok(match self.missing {
            1 => None,
            missing => Some(Self { missing: missing - 1, least: 0x80, most: 0xBF }),
        })
    }
}

/// Validates a text that is there whole.
#[inline]
pub fn validate(bytes: &[u8]) -> Result<(), InvalidUtf8> {
    if is_short_ascii(bytes) {
        return Ok(());
    }
    match simdutf8::basic::from_utf8(bytes) {
        Ok(_) => Ok(()),
        Err(_) => Err(InvalidUtf8),
    }
}

/// Most messages are short and ASCII, and then this is a few instructions in place, where the validator is a call.
///
/// It looks at every byte whatever it finds, so that it has no branch to guess; `is_ascii` of std is slower at sizes
/// that are no multiple of its block.
#[inline]
fn is_short_ascii(bytes: &[u8]) -> bool {
    if bytes.len() > SHORT_LEN_MAX {
        return false;
    }
    let (words, tail) = bytes.as_chunks::<8>();
    let seen = words.iter().fold(0, |seen, word| seen | u64::from_ne_bytes(*word));
    let seen = tail.iter().fold(seen, |seen, byte| seen | u64::from(*byte));
    seen & HIGH_BITS == 0
}

/// Up to this length a text is first tried as ASCII. Above it the validator's own ASCII path is as good.
const SHORT_LEN_MAX: usize = 128;
/// In every byte of a word, the bit that no ASCII character has.
const HIGH_BITS: u64 = 0x8080_8080_8080_8080;

const _: () = assert!(size_of::<Utf8Stream>() <= 8);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The obvious twin: everything so far, judged by std. An unfinished last character is no error yet.
    fn obvious(so_far: &[u8]) -> Result<(), InvalidUtf8> {
        match std::str::from_utf8(so_far) {
            Err(error) if error.error_len().is_some() => Err(InvalidUtf8),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Feeds `pieces` and compares with the twin after each, and at the end.
    fn assert_like_std<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) {
        let mut stream = Utf8Stream::default();
        let mut so_far = Vec::new();
        for piece in pieces {
            so_far.extend_from_slice(piece);
            let got = stream.push(piece);
            assert_eq!(got, obvious(&so_far), "{so_far:02x?}, last piece {piece:02x?}");
            if got.is_err() {
                return;
            }
        }
        assert_eq!(stream.finish().is_ok(), std::str::from_utf8(&so_far).is_ok(), "{so_far:02x?}");
    }

    fn assert_like_std_at_every_cut(text: &[u8]) {
        assert_eq!(validate(text).is_ok(), std::str::from_utf8(text).is_ok(), "{text:02x?}");
        assert_like_std(text.chunks(1));
        for cut in 0..=text.len() {
            assert_like_std([&text[..cut], &text[cut..]]);
        }
    }

    #[test]
    fn tables_at_every_cut() {
        let cases: &[&[u8]] = &[
            b"",
            b"hello",
            "κόσμε".as_bytes(),
            "a\u{80}\u{7ff}\u{800}\u{ffff}\u{10000}\u{10ffff}z".as_bytes(),
            // Surrogates, overlong forms, beyond U+10FFFF, lone and missing continuations.
            b"\xed\x9f\xbf",
            b"\xed\xa0\x80",
            b"\xc0\x80",
            b"\xc1\xbf",
            b"\xe0\x9f\xbf",
            b"\xe0\xa0\x80",
            b"\xf0\x8f\xbf\xbf",
            b"\xf0\x90\x80\x80",
            b"\xf4\x8f\xbf\xbf",
            b"\xf4\x90\x80\x80",
            b"\xf5\x80\x80\x80",
            b"\x80",
            b"a\xbf",
            b"\xc3",
            b"\xe2\x82",
            b"\xf0\x9f\x98",
            b"\xc3\x28",
            b"\xe2\x82\x28",
            b"\xfe\xff",
        ];
        for text in cases {
            assert_like_std_at_every_cut(text);
            // And far from the beginning, where the wide path runs.
            let padded = [&[b'x'; 200][..], text, &[b'y'; 100][..]].concat();
            assert_like_std_at_every_cut(&padded);
        }
    }

    #[test]
    fn it_fails_at_the_byte_that_proves_it() {
        let mut stream = Utf8Stream::default();
        stream.push(b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4").unwrap();
        assert_eq!(stream.push(b"\x90"), Err(InvalidUtf8));
        assert_eq!(Utf8Stream::default().push(b"\xf4\x90"), Err(InvalidUtf8));
    }

    #[test]
    fn every_pair_of_bytes() {
        for first in 0..=255 {
            for second in 0..=255 {
                assert_like_std_at_every_cut(&[first, second]);
            }
        }
    }

    #[test]
    fn every_beginning_with_every_limit_of_the_next_bytes() {
        let limits = [0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xff];
        for first in 0xc0..=255 {
            for second in limits {
                for third in limits {
                    for fourth in limits {
                        assert_like_std([first, second, third, fourth].chunks(1));
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn texts_in_pieces(
            text in "\\PC{0,80}",
            damage in any::<Option<(u8, u8)>>(),
            cuts in prop::collection::vec(1usize..70, 1..20),
        ) {
            let mut bytes = text.into_bytes();
            if let (Some((at, byte)), false) = (damage, bytes.is_empty()) {
                let at = at as usize % bytes.len();
                bytes[at] = byte;
            }
            prop_assert_eq!(validate(&bytes).is_ok(), std::str::from_utf8(&bytes).is_ok());
            let mut rest = &bytes[..];
            let mut pieces = Vec::new();
            for len in cuts.into_iter().chain([usize::MAX]) {
                let (piece, after) = rest.split_at(len.min(rest.len()));
                pieces.push(piece);
                rest = after;
            }
            assert_like_std(pieces);
        }
    }
}
