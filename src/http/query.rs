//! The query of a request target as pairs of names and values.

use std::borrow::Cow;

/// The parameters of a query, percent-decoded, in their order.
///
/// Pairs are separated by `&`; `+` is a space, as HTML forms write it. A `%` without two hexadecimal digits stands
/// for itself, and bytes that are not UTF-8 become U+FFFD: a query is never an error.
#[derive(Clone, Debug)]
pub struct QueryParams<'a> {
    rest: &'a str,
}

impl<'a> QueryParams<'a> {
    /// The parameters of `query`, which stands without its `?`.
    pub fn new(query: &'a str) -> Self {
        Self { rest: query }
    }
}

impl<'a> Iterator for QueryParams<'a> {
    type Item = (Cow<'a, str>, Cow<'a, str>);

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            let (pair, rest) = self.rest.split_once('&').unwrap_or((self.rest, ""));
            self.rest = rest;
            if !pair.is_empty() {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                return Some((percent_decode(name), percent_decode(value)));
            }
        }
        None
    }
}

fn percent_decode(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(text);
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = decode_one(rest) {
        decoded.push(byte);
        rest = after;
    }
    Cow::Owned(match String::from_utf8(decoded) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}

/// The next decoded byte, and what follows it.
fn decode_one(bytes: &[u8]) -> Option<(u8, &[u8])> {
    match bytes {
        [b'+', rest @ ..] => Some((b' ', rest)),
        [b'%', high, low, rest @ ..] => match (hex_digit(*high), hex_digit(*low)) {
            (Some(high), Some(low)) => Some((high << 4 | low, rest)),
            (None, _) | (_, None) => Some((b'%', &bytes[1..])),
        },
        [byte, rest @ ..] => Some((*byte, rest)),
        [] => None,
    }
}

fn hex_digit(byte: u8) -> Option<u8> {
    (byte as char).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_split_and_decoded() {
        let cases: &[(&str, &[(&str, &str)])] = &[
            ("", &[]),
            ("&&", &[]),
            ("a", &[("a", "")]),
            ("a=", &[("a", "")]),
            ("=a", &[("", "a")]),
            ("a=b&a=c", &[("a", "b"), ("a", "c")]),
            ("a=b=c&", &[("a", "b=c")]),
            ("t=a+b%20c", &[("t", "a b c")]),
            ("%61=%C3%a9", &[("a", "é")]),
            ("a=%", &[("a", "%")]),
            ("a=%4", &[("a", "%4")]),
            ("a=%zz%41", &[("a", "%zzA")]),
            ("a=%FF", &[("a", "\u{FFFD}")]),
        ];
        for &(query, want) in cases {
            let got: Vec<_> = QueryParams::new(query).collect();
            let want: Vec<_> = want.iter().map(|&(name, value)| (Cow::from(name), Cow::from(value))).collect();
            assert_eq!(got, want, "{query:?}");
        }
    }

    #[test]
    fn nothing_to_decode_is_nothing_to_allocate() {
        assert!(
            QueryParams::new("a=b").all(|(name, value)| matches!((name, value), (Cow::Borrowed(_), Cow::Borrowed(_))))
        );
    }
}
