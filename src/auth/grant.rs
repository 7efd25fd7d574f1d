//! Topics as claims name them: patterns of segments between colons.
//!
//! `*` stands for one segment, `**` for all that follow, at least one; anything else for itself. Both are whole
//! segments: `room*` is no pattern.

/// Patterns from one claim: what a user may do something with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patterns(Box<[Box<str>]>);

impl Patterns {
    /// `None` if there are more than 128, or one is malformed.
    pub fn new(patterns: Vec<Box<str>>) -> Option<Self> {
        let usable = patterns.len() <= PATTERNS_MAX && patterns.iter().all(|pattern| is_pattern(pattern));
        usable.then(|| Self(patterns.into()))
    }

    /// Whether one of them covers `wanted`, a topic or a pattern.
    pub fn allow(&self, wanted: &str) -> bool {
        self.0.iter().any(|pattern| covers(pattern, wanted))
    }

    /// As the token has them.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|pattern| &**pattern)
    }
}

/// Whether every topic that `wanted` stands for is one that `pattern` stands for.
///
/// `wanted` is a well-formed topic or pattern. A topic has no segment `*` or `**`, so it need not be told which.
pub fn covers(pattern: &str, wanted: &str) -> bool {
    let (mut pattern, mut wanted) = (pattern.split(':'), wanted.split(':'));
    loop {
        return match (pattern.next(), wanted.next()) {
            (Some("**"), Some(_)) | (None, None) => true,
            (Some("*"), Some(wanted)) if wanted != "**" => continue,
            (Some(segment), Some(wanted)) if segment == wanted => continue,
            (Some(_), Some(_)) | (Some(_), None) | (None, Some(_)) => false,
        };
    }
}

/// Whether all segments are there, stars stand alone, and `**` only at the end.
fn is_pattern(pattern: &str) -> bool {
    let (before, last) = pattern.rsplit_once(':').map_or((None, pattern), |(before, last)| (Some(before), last));
    let is_segment = |segment: &str| segment == "*" || !segment.is_empty() && !segment.contains('*');
    pattern.len() <= PATTERN_BYTES_MAX
        && (last == "**" || is_segment(last))
        && before.is_none_or(|before| before.split(':').all(is_segment))
}

/// Most patterns in one claim.
const PATTERNS_MAX: usize = 128;
/// Longest pattern.
const PATTERN_BYTES_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_covers_what() {
        let cases = [
            ("chat", "chat", true),
            ("chat", "chat:a", false),
            ("chat:a", "chat", false),
            ("chat:a", "chat:b", false),
            ("prices:*", "prices:eur", true),
            ("prices:*", "prices", false),
            ("prices:*", "prices:eur:usd", false),
            ("prices:*", "prices:*", true),
            ("prices:*", "prices:**", false),
            ("prices:*:usd", "prices:eur:usd", true),
            ("prices:*:usd", "prices:eur:gbp", false),
            ("prices:*:usd", "prices:*:usd", true),
            ("prices:*:usd", "prices:*:*", false),
            ("prices:**", "prices:eur", true),
            ("prices:**", "prices:eur:usd", true),
            ("prices:**", "prices", false),
            ("prices:**", "prices:*", true),
            ("prices:**", "prices:*:usd", true),
            ("prices:**", "prices:**", true),
            ("prices:**", "price:eur", false),
            ("**", "prices", true),
            ("**", "**", true),
            ("*", "**", false),
            ("*", "prices", true),
            ("prices:eur", "prices:*", false),
            ("prices:eur", "prices:**", false),
        ];
        for (pattern, wanted, want) in cases {
            assert_eq!(covers(pattern, wanted), want, "{pattern} covers {wanted}");
        }
    }

    /// Compared with what patterns mean: sets of topics, here over two names and up to three segments.
    #[test]
    fn to_cover_is_to_contain_every_topic() {
        let all = |alphabet: &[&str]| -> Vec<String> {
            let mut level: Vec<String> = alphabet.iter().map(|&segment| segment.to_owned()).collect();
            let mut found = level.clone();
            for _ in 0..2 {
                let longer = |head: &String| alphabet.iter().map(move |segment| format!("{head}:{segment}")).collect();
                level = level.iter().flat_map::<Vec<_>, _>(longer).collect();
                found.extend(level.iter().cloned());
            }
            found
        };
        // A third name that no pattern has, and a fourth segment, stand for all the others.
        let mut topics = all(&["a", "b", "other"]);
        topics.extend(topics.clone().iter().map(|topic| format!("{topic}:other")));
        let patterns: Vec<_> = all(&["a", "b", "*", "**"]).into_iter().filter(|pattern| is_pattern(pattern)).collect();
        for pattern in &patterns {
            for wanted in &patterns {
                let mut meant = topics.iter().filter(|topic| covers(wanted, topic));
                let want = meant.all(|topic| covers(pattern, topic));
                assert_eq!(covers(pattern, wanted), want, "{pattern} covers {wanted}");
            }
        }
    }

    #[test]
    fn malformed_patterns_are_refused() {
        let long = "a".repeat(PATTERN_BYTES_MAX + 1);
        for bad in ["", ":", "a:", ":a", "a::b", "room*", "*room", "***", "**:a", "a:**:b", "a:b*", &long] {
            assert!(!is_pattern(bad), "{bad}");
            assert_eq!(Patterns::new(vec!["a".into(), bad.into()]), None);
        }
        for good in ["a", "*", "**", "a:*", "*:a", "*:*", "a:*:**", "ä:ö", &long[1..]] {
            assert!(is_pattern(good), "{good}");
        }
        let many = |count| Patterns::new(vec!["a".into(); count]);
        assert!(many(PATTERNS_MAX).is_some());
        assert_eq!(many(PATTERNS_MAX + 1), None);
    }

    #[test]
    fn no_pattern_allows_nothing() {
        assert!(!Patterns::default().allow("a"));
        let some = Patterns::new(vec!["a:*".into(), "b".into()]).unwrap();
        assert!(some.allow("a:x") && some.allow("b") && !some.allow("c") && !some.allow("**"));
        assert!(some.iter().eq(["a:*", "b"]));
    }
}
