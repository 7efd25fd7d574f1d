//! Wildcards.
//!
//! A pattern is a name in which a whole segment may be `*`, which stands for exactly one segment, and the last may be
//! `**`, which stands for all the rest, of which there must be some: `prices:*` matches `prices:EUR` and not
//! `prices:EUR:spot`; `prices:**` matches both, and neither matches `prices`.
//!
//! What a pattern matches is not yet what its subscriber hears: it never crosses into another namespace. See
//! [`Namespaces`](super::Namespaces).

use std::fmt;
use std::sync::Arc;

use super::name::{NameError, SEPARATOR, Topic, check, segments_at};

/// A name with wildcards, known to be good. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern(Arc<str>);

/// What can be subscribed to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// One topic.
    Topic(Topic),
    /// All topics that match.
    Pattern(Pattern),
}

/// One segment of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    Literal(&'a str),
    /// `*`
    Any,
    /// `**`
    Rest,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    ///
    /// If it does not follow the grammar of names, or its wildcards are not where they may be.
    pub fn parse(pattern: &str) -> Result<Self, NameError> {
        check(pattern)?;
        let mut has_wildcard = false;
        for (at, segment) in segments_at(pattern) {
            match (Part::of(segment), segment.find('*')) {
                (Part::Rest, _) if at + segment.len() < pattern.len() => return Err(NameError::RestNotLast { at }),
                (Part::Rest | Part::Any, _) => has_wildcard = true,
                (Part::Literal(_), Some(star)) => {
                    return Err(NameError::WildcardWithinSegment { at: at + star });
                }
                (Part::Literal(_), None) => {}
            }
        }
        if has_wildcard { Ok(Self(pattern.into())) } else { Err(NameError::NoWildcard) }
    }

    /// The pattern.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the topic's name has this form.
    pub fn matches(&self, topic: &Topic) -> bool {
        let mut segments = topic.segments();
        for part in self.parts() {
            let Some(segment) = segments.next() else { return false };
            match part {
                Part::Rest => return true,
                Part::Any => {}
                Part::Literal(literal) if literal == segment => {}
                Part::Literal(_) => return false,
            }
        }
        segments.next().is_none()
    }

    /// Whether every name that `other` matches is matched by this one too: who may read this may read that.
    pub fn covers(&self, other: &Self) -> bool {
        let mut theirs = other.parts();
        for part in self.parts() {
            match (part, theirs.next()) {
                (_, None) => return false,
                (Part::Rest, Some(_)) => return true,
                (Part::Any | Part::Literal(_), Some(Part::Rest)) => return false,
                (Part::Any, Some(Part::Any | Part::Literal(_))) => {}
                (Part::Literal(ours), Some(Part::Literal(literal))) if ours == literal => {}
                (Part::Literal(_), Some(Part::Any | Part::Literal(_))) => return false,
            }
        }
        theirs.next().is_none()
    }

    /// What stands before the first wildcard, without the separator; empty if that is the first segment.
    pub fn head(&self) -> &str {
        let head: usize = self
            .parts()
            .map_while(|part| match part {
                Part::Literal(literal) => Some(literal.len() + SEPARATOR.len_utf8()),
                Part::Any | Part::Rest => None,
            })
            .sum();
        &self.0[..head.saturating_sub(SEPARATOR.len_utf8())]
    }

    pub(super) fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        self.0.split(SEPARATOR).map(Part::of)
    }

    pub(super) fn shared(&self) -> &Arc<str> {
        &self.0
    }

    /// For patterns that were read before.
    pub(super) fn known(pattern: Arc<str>) -> Self {
        debug_assert!(Self::parse(&pattern).is_ok(), "{pattern:?}");
        Self(pattern)
    }
}

impl Subject {
    /// Reads what a client wants to subscribe to: a pattern if there is a `*` in it.
    ///
    /// # Errors
    ///
    /// As [`Topic::parse`] and [`Pattern::parse`].
    pub fn parse(text: &str) -> Result<Self, NameError> {
        match text.contains('*') {
            true => Pattern::parse(text).map(Self::Pattern),
            false => Topic::parse(text).map(Self::Topic),
        }
    }

    /// The name, or the pattern.
    pub fn as_str(&self) -> &str {
        self.shared()
    }

    pub(super) fn shared(&self) -> &Arc<str> {
        match self {
            Self::Topic(topic) => topic.shared(),
            Self::Pattern(pattern) => pattern.shared(),
        }
    }

    /// For what was read before.
    pub(super) fn known(text: Arc<str>) -> Self {
        // No topic has a star in its name.
        if text.contains('*') { Self::Pattern(Pattern::known(text)) } else { Self::Topic(Topic::known(text)) }
    }
}

impl<'a> Part<'a> {
    fn of(segment: &'a str) -> Self {
        match segment {
            "*" => Self::Any,
            "**" => Self::Rest,
            literal => Self::Literal(literal),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).expect(text)
    }

    #[test]
    fn a_star_is_one_segment_and_two_are_the_rest() {
        let cases = [
            ("prices:*", &["prices:EUR", "prices:ä b"][..], &["prices", "prices:EUR:spot", "rates:EUR", "price:s"][..]),
            ("prices:**", &["prices:EUR", "prices:EUR:spot:x"], &["prices", "rates:EUR"]),
            ("*", &["a", "prices"], &["a:b"]),
            ("**", &["a", "a:b", "a:b:c"], &[]),
            ("*:EUR", &["prices:EUR", "rates:EUR"], &["EUR", "prices:USD", "a:b:EUR", "prices:EUR:x"]),
            ("a:*:c:**", &["a:b:c:d", "a:x:c:d:e"], &["a:b:c", "a:b:x:d"]),
        ];
        for (text, yes, no) in cases {
            for name in yes {
                assert!(pattern(text).matches(&Topic::parse(name).expect(name)), "{text} matches {name}");
            }
            for name in no {
                assert!(!pattern(text).matches(&Topic::parse(name).expect(name)), "{text} does not match {name}");
            }
        }
    }

    #[test]
    fn bad_patterns_say_what_is_wrong_and_where() {
        let cases = [
            ("", NameError::Empty),
            ("a:b", NameError::NoWildcard),
            ("a:b*", NameError::WildcardWithinSegment { at: 3 }),
            ("a:***", NameError::WildcardWithinSegment { at: 2 }),
            ("**:a", NameError::RestNotLast { at: 0 }),
            ("a:**:*", NameError::RestNotLast { at: 2 }),
            ("*:", NameError::EmptySegment { at: 2 }),
        ];
        for (text, error) in cases {
            assert_eq!(Pattern::parse(text), Err(error), "{text:?}");
        }
        assert!(matches!(Subject::parse("a:b"), Ok(Subject::Topic(_))));
        assert!(matches!(Subject::parse("a:*"), Ok(Subject::Pattern(_))));
    }

    #[test]
    fn the_head_is_what_stands_before_the_first_wildcard() {
        for (text, head) in [("*", ""), ("**", ""), ("a:*", "a"), ("a:b:**", "a:b"), ("a:*:c", "a"), ("*:c", "")] {
            assert_eq!(pattern(text).head(), head, "{text}");
        }
    }

    /// All patterns and names up to three segments over a small alphabet, against the definition.
    #[test]
    fn covers_is_the_inclusion_of_what_is_matched() {
        let words = |alphabet: &[&str]| {
            let mut all: Vec<String> = alphabet.iter().map(|word| (*word).to_owned()).collect();
            for _ in 0..3 {
                let longer: Vec<_> =
                    all.iter().flat_map(|left| alphabet.iter().map(move |word| format!("{left}:{word}"))).collect();
                all.extend(longer);
                all.sort();
                all.dedup();
            }
            all
        };
        // One letter more than patterns have, and one segment more: enough to tell any two patterns apart.
        let names: Vec<_> = words(&["a", "b", "c"]).iter().map(|name| Topic::parse(name).expect(name)).collect();
        let short = |text: &&String| text.matches(':').count() < 3;
        let patterns: Vec<_> =
            words(&["a", "b", "*", "**"]).iter().filter(short).filter_map(|text| Pattern::parse(text).ok()).collect();
        assert_eq!((patterns.len(), names.len()), (38, 120));
        for wide in &patterns {
            for narrow in &patterns {
                let included = names.iter().filter(|name| narrow.matches(name)).all(|name| wide.matches(name));
                assert_eq!(wide.covers(narrow), included, "{wide} covers {narrow}");
            }
        }
    }
}
