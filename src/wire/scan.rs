//! What is looked for in a frame before serde_json reads it.
//!
//! serde_json bounds the depth of what it reads into types, at 128; but `data` is taken as it stands
//! (`RawValue`), and there it only checks the grammar: any depth, numbers of any length, escapes of half a character.
//! All of that would go on to every subscriber, whose parser may break on it: Python refuses whole numbers of more than
//! 4,300 digits and recurses per level, and half a surrogate pair is no character in UTF-8. So it is refused here, in
//! one pass without memory, before anything is built. Repeated members are found where members are read.

use super::fault::Fault;

/// Holds `text` against the bounds of JSON that goes on to clients. It need not be JSON: that is found out later.
///
/// # Errors
///
/// [`Fault::TooDeep`], [`Fault::NumberTooLong`] or [`Fault::LoneSurrogate`].
pub fn check(text: &str) -> Result<(), Fault> {
    let bytes = text.as_bytes();
    let (mut at, mut depth, mut number_len) = (0, 0usize, 0usize);
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        number_len = if is_of_number(byte) { number_len + 1 } else { 0 };
        if number_len > NUMBER_BYTES_MAX {
            return Err(Fault::NumberTooLong);
        }
        match byte {
            b'"' => at = end_of_string(bytes, at)?,
            b'[' | b'{' if depth == DEPTH_MAX => return Err(Fault::TooDeep),
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

fn is_of_number(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E')
}

/// Where the string that begins at `at` is over: behind its quotation mark, or at the end of what there is.
fn end_of_string(bytes: &[u8], mut at: usize) -> Result<usize, Fault> {
    loop {
        match bytes.get(at) {
            None => return Ok(at),
            Some(b'"') => return Ok(at + 1),
            Some(b'\\') if bytes.get(at + 1) == Some(&b'u') => at = end_of_escape(bytes, at)?,
            Some(b'\\') => at += 2,
            Some(_) => at += 1,
        }
    }
}

/// Half of a pair must be followed by the other (RFC 7493 §2.1). What is not hexadecimal is left to the parser.
fn end_of_escape(bytes: &[u8], at: usize) -> Result<usize, Fault> {
    match (code_unit(bytes, at), code_unit(bytes, at + ESCAPE_LEN)) {
        (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => Ok(at + 2 * ESCAPE_LEN),
        (Some(0xD800..=0xDFFF), _) => Err(Fault::LoneSurrogate),
        (_, _) => Ok(at + 2),
    }
}

/// The number in `\uXXXX`.
fn code_unit(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at + ESCAPE_LEN)?.strip_prefix(b"\\u")?;
    let value = |digit: &u8| char::from(*digit).to_digit(16);
    digits.iter().try_fold(0, |unit, digit| Some(unit << 4 | value(digit)? as u16))
}

/// Deepest nesting of a frame: the message's own object is the first level.
pub const DEPTH_MAX: usize = 32;
/// Longest number in bytes. The shortest text of any double has at most 24.
pub const NUMBER_BYTES_MAX: usize = 64;

/// Bytes of `\uXXXX`.
const ESCAPE_LEN: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_bounded_and_brackets_in_strings_are_text() {
        for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
            let nested = |depth| format!("{}1{}", open.repeat(depth), close.repeat(depth));
            assert_eq!(check(&nested(DEPTH_MAX)), Ok(()));
            assert_eq!(check(&nested(DEPTH_MAX + 1)), Err(Fault::TooDeep));
            assert_eq!(check(&open.repeat(100_000)), Err(Fault::TooDeep));
        }
        assert_eq!(check(&format!("[{}]", vec!["[]"; 1000].join(","))), Ok(()));
        assert_eq!(check(&format!(r#""{}""#, "[{".repeat(1000))), Ok(()));
        assert_eq!(check(&format!(r#""\"{}\\""#, "[{".repeat(1000))), Ok(()));
        assert_eq!(check(&format!(r#""\\"{}"#, "[".repeat(DEPTH_MAX + 1))), Err(Fault::TooDeep));
    }

    #[test]
    fn numbers_are_bounded_and_digits_in_strings_are_text() {
        let digits = "9".repeat(NUMBER_BYTES_MAX);
        assert_eq!(check(&format!("[{digits},{digits}]")), Ok(()));
        assert_eq!(check(&format!("[-{digits}]")), Err(Fault::NumberTooLong));
        assert_eq!(check(&format!("[0.{digits}]")), Err(Fault::NumberTooLong));
        assert_eq!(check(&format!("[1e{digits}]")), Err(Fault::NumberTooLong));
        assert_eq!(check(&format!(r#""{digits}{digits}""#)), Ok(()));
    }

    #[test]
    fn surrogates_come_in_pairs() {
        for good in
            [r"\ud83d\ude00", r"\uD83D\uDE00", r"\u00e9", r"\\ud83d", r"\ud83d\ude00\ud83d\ude00", r"\u12", r"\"]
        {
            assert_eq!(check(&format!(r#"{{"a":"{good}"}}"#)), Ok(()), "{good}");
        }
        for bad in
            [r"\ud83d", r"\ude00", r"\ude00\ud83d", r"\ud83d\ud83d", r"\ud83dx\ude00", r"\ud83d\u0041", r"\\\ud83d"]
        {
            assert_eq!(check(&format!(r#"{{"a":"{bad}"}}"#)), Err(Fault::LoneSurrogate), "{bad}");
        }
    }
}
