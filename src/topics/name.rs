//! What topics are called.
//!
//! ```text
//! topic   = segment *( ":" segment )       ; 1 to 255 bytes of UTF-8
//! segment = 1*char                         ; any character but ":", "*" and control characters
//! ```
//!
//! Letters of different case are different, and nothing is normalised: two names are the same when their bytes are.

use std::fmt;
use std::sync::Arc;

/// Most bytes in the name of a topic, or in a pattern.
pub const NAME_BYTES_MAX: usize = 255;

/// What stands between two segments.
pub(super) const SEPARATOR: char = ':';

/// The name of a topic, known to be good. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(Arc<str>);

/// What is wrong with a name. Positions are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// There is no name at all.
    #[error("a topic must have a name")]
    Empty,
    /// More than [`NAME_BYTES_MAX`].
    #[error("the name has {bytes} bytes, and {NAME_BYTES_MAX} are allowed")]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// It begins or ends with the separator, or has two in a row.
    #[error("a segment is empty at byte {at}: \":\" must stand between two segments")]
    EmptySegment {
        /// Where the segment would be.
        at: usize,
    },
    /// A control character.
    #[error("the control character {char:?} at byte {at} is not allowed")]
    Control {
        /// Where it is.
        at: usize,
        /// Which one.
        char: char,
    },
    /// A wildcard in the name of a topic.
    #[error("\"*\" at byte {at} is not allowed in the name of a topic, only in a pattern")]
    Wildcard {
        /// Where it is.
        at: usize,
    },
    /// A `*` that is not a whole segment.
    #[error("\"*\" at byte {at} is not allowed within a segment: it must be the whole of it")]
    WildcardWithinSegment {
        /// Where it is.
        at: usize,
    },
    /// A `**` with something behind it.
    #[error("\"**\" at byte {at} must be the last segment")]
    RestNotLast {
        /// Where it is.
        at: usize,
    },
    /// A pattern that can only match one name.
    #[error("a pattern must have a segment \"*\" or \"**\"")]
    NoWildcard,
}

impl Topic {
    /// Reads a name.
    ///
    /// # Errors
    ///
    /// If it does not follow the grammar at the top of this file.
    pub fn parse(name: &str) -> Result<Self, NameError> {
        check(name)?;
        match name.find('*') {
            Some(at) => Err(NameError::Wildcard { at }),
            None => Ok(Self(name.into())),
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its segments, from left to right.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split(SEPARATOR)
    }

    pub(super) fn shared(&self) -> &Arc<str> {
        &self.0
    }

    /// For names that were read before.
    pub(super) fn known(name: Arc<str>) -> Self {
        debug_assert!(Self::parse(&name).is_ok(), "{name:?}");
        Self(name)
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What holds for topics and patterns alike.
pub(super) fn check(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(NameError::TooLong { bytes: name.len() });
    }
    if let Some((at, char)) = name.char_indices().find(|(_, char)| char.is_control()) {
        return Err(NameError::Control { at, char });
    }
    match segments_at(name).find(|(_, segment)| segment.is_empty()) {
        Some((at, _)) => Err(NameError::EmptySegment { at }),
        None => Ok(()),
    }
}

/// The segments of a name, each with the byte at which it begins.
pub(super) fn segments_at(name: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    name.split(SEPARATOR).map(move |segment| {
        let begin = at;
        at += segment.len() + SEPARATOR.len_utf8();
        (begin, segment)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_names_come_back_as_they_are() {
        let longest = "x".repeat(NAME_BYTES_MAX);
        for name in ["a", "prices:EUR", "a:b:c:d", "größe:日本 €", "a b", "-", "a.b/c", &longest] {
            assert_eq!(Topic::parse(name).expect(name).as_str(), name);
        }
        let topic = Topic::parse("a:bc:d").expect("it is good");
        assert!(topic.segments().eq(["a", "bc", "d"]));
    }

    #[test]
    fn bad_names_say_what_is_wrong_and_where() {
        let long = "x".repeat(256);
        let cases = [
            ("", NameError::Empty),
            (&*long, NameError::TooLong { bytes: 256 }),
            (":", NameError::EmptySegment { at: 0 }),
            (":a", NameError::EmptySegment { at: 0 }),
            ("a:", NameError::EmptySegment { at: 2 }),
            ("ä::b", NameError::EmptySegment { at: 3 }),
            ("a\nb", NameError::Control { at: 1, char: '\n' }),
            ("ab\u{85}", NameError::Control { at: 2, char: '\u{85}' }),
            ("a\0", NameError::Control { at: 1, char: '\0' }),
            ("a:*", NameError::Wildcard { at: 2 }),
            ("a*b", NameError::Wildcard { at: 1 }),
        ];
        for (name, error) in cases {
            assert_eq!(Topic::parse(name), Err(error), "{name:?}");
        }
        assert_eq!(
            NameError::Control { at: 1, char: '\n' }.to_string(),
            "the control character '\\n' at byte 1 is not allowed"
        );
    }

    #[test]
    fn the_limit_is_in_bytes() {
        let name = "é".repeat(128);
        assert_eq!(Topic::parse(&name), Err(NameError::TooLong { bytes: 256 }));
    }
}
