//! Comma-separated lists of tokens (RFC 9110 §5.6.1), as `Connection`, `Upgrade` and `Sec-WebSocket-Protocol` have.

use crate::http;

/// The elements of a list, without the white space around them. Empty elements are skipped (RFC 9110 §5.6.1.2).
pub(super) fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

/// Whether one of the elements of one of the values is that token, in any case.
pub(super) fn any_is<'v>(mut values: impl Iterator<Item = &'v [u8]>, token: &str) -> bool {
    values.any(|value| elements(value).any(|element| element.eq_ignore_ascii_case(token.as_bytes())))
}

/// The bytes as a token, if they are one (RFC 9110 §5.6.2).
pub(super) fn as_token(bytes: &[u8]) -> Option<&str> {
    let is_token = !bytes.is_empty() && bytes.iter().all(|&byte| http::is_token_byte(byte));
    if is_token { std::str::from_utf8(bytes).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_their_elements() {
        let cases: &[(&[u8], &[&[u8]])] =
            &[(b"", &[]), (b" , ,", &[]), (b"a", &[b"a"]), (b"a,b", &[b"a", b"b"]), (b" a\t, b c ,", &[b"a", b"b c"])];
        for &(value, want) in cases {
            assert!(elements(value).eq(want.iter().copied()), "{}", value.escape_ascii());
        }
    }

    #[test]
    fn a_token_is_found_whole_and_in_any_case() {
        let cases: &[(&[&[u8]], bool)] = &[
            (&[], false),
            (&[b"Upgrade"], true),
            (&[b"keep-alive, UPGRADE"], true),
            (&[b"keep-alive", b"upgrade"], true),
            (&[b"upgraded"], false),
            (&[b"up grade"], false),
            (&[b"\"upgrade\""], false),
        ];
        for &(values, want) in cases {
            assert_eq!(any_is(values.iter().copied(), "upgrade"), want, "{values:?}");
        }
    }

    #[test]
    fn every_byte_is_in_a_token_or_not_by_the_list() {
        // RFC 9110 §5.6.2: the visible characters of ASCII without the delimiters.
        for byte in 0..=255u8 {
            let want = byte.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(&byte);
            assert_eq!(as_token(&[b'a', byte]).is_some(), want, "{byte:#x}");
        }
        assert_eq!(as_token(b""), None);
    }
}
