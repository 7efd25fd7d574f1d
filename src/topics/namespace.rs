//! Groups of topics with one configuration.
//!
//! A namespace is named by one or more segments. A topic belongs to the longest namespace that its name begins with,
//! whole segments counted, the name itself included: with the namespaces `prices` and `prices:vip`, the topic
//! `prices:vip:EUR` belongs to the second, `prices` and `prices:EUR` to the first, and `pricesX` to the default.
//!
//! A pattern belongs to one namespace as well, the longest that is at the beginning of its [head](Pattern::head), and
//! its subscriber hears only topics of that one: `prices:**` does not hear `prices:vip:EUR`, and `**` hears the
//! default namespace and no other. So a wildcard never crosses into a namespace that a client may not read: to permit
//! a subscription, it is enough to look at the namespace of its pattern.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::name::{NameError, SEPARATOR, Topic};
use super::pattern::{Pattern, Subject};
use crate::rate::Rate;

/// How topics of one namespace behave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Segments at the beginning of its topics' names; empty for the default.
    pub name: String,
    /// Who may subscribe.
    pub subscribe: Access,
    /// Which clients may publish. Back ends always may.
    pub publish: Access,
    /// Publications that a topic keeps; zero for none.
    pub history_messages: usize,
    /// How long a topic keeps a publication.
    pub history_ttl: Duration,
    /// Bytes of content that a topic keeps.
    pub history_bytes: usize,
    /// Whether topics know their members.
    pub presence: bool,
    /// Whether subscribers are told which user has published something.
    pub publisher: bool,
    /// What becomes of subscribers that read too slowly.
    pub slow_consumer: SlowConsumer,
    /// Most bytes of content and key in one publication.
    pub message_bytes_max: usize,
    /// How fast one client may publish; `None` for as fast as it can.
    pub publish_rate: Option<Rate>,
}

/// Which clients may do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    Public,
    /// Whose token of the connection permits it.
    Token,
    /// Who has a token for this very topic.
    Signed,
    /// No client: only back ends and the application itself.
    Nobody,
}

/// What becomes of publications for a subscriber that reads too slowly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlowConsumer {
    /// It is disconnected, comes back, and recovers from history.
    Disconnect,
    /// The oldest publications that wait are dropped.
    DropOldest,
    /// Of publications with one key only the newest waits: prices, positions.
    Latest,
}

/// All namespaces, asked by name.
#[derive(Clone, Debug)]
pub struct Namespaces {
    default: Arc<Namespace>,
    named: HashMap<String, Arc<Namespace>>,
    /// Most segments in the name of any.
    depth_max: usize,
    is_strict: bool,
}

/// Namespaces that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NamespaceError {
    /// The name does not follow the grammar of topics.
    #[error("the namespace {name:?} is badly named: {error}")]
    Name {
        /// What it is called.
        name: String,
        /// What is wrong with that.
        error: NameError,
    },
    /// Two have one name.
    #[error("there are two namespaces {name:?}")]
    Twice {
        /// What both are called.
        name: String,
    },
    /// More history than a topic may have.
    #[error("the namespace {name:?} keeps {messages} publications of a topic, and {HISTORY_MESSAGES_MAX} are allowed")]
    History {
        /// Which one.
        name: String,
        /// How many it would keep.
        messages: usize,
    },
}

/// Why there may be no such topic or pattern; see [`Namespaces::strict`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the topic's namespace is not configured, and other topics are refused")]
pub struct UnknownNamespace;

/// Most publications that a topic may keep.
pub const HISTORY_MESSAGES_MAX: usize = 1_000_000;

impl Namespace {
    /// Whether its topics keep one value, for whoever does not know it yet: newcomers, and those who come back and
    /// cannot be told all that they missed.
    pub fn keeps_last_value(&self) -> bool {
        self.history_messages == 1
    }
}

impl Default for Namespace {
    /// Everybody may subscribe, no client publishes; a minute of history, 100 publications and 1 MiB at most.
    fn default() -> Self {
        Self {
            name: String::new(),
            subscribe: Access::Public,
            publish: Access::Nobody,
            history_messages: 100,
            history_ttl: Duration::from_secs(60),
            history_bytes: 1 << 20,
            presence: false,
            publisher: false,
            slow_consumer: SlowConsumer::Disconnect,
            message_bytes_max: 64 << 10,
            publish_rate: None,
        }
    }
}

impl Default for Namespaces {
    /// The default one alone.
    fn default() -> Self {
        Self { default: Arc::default(), named: HashMap::new(), depth_max: 0, is_strict: false }
    }
}

impl Namespaces {
    /// `default` is for all topics that belong to no other; its name is made empty.
    ///
    /// # Errors
    ///
    /// If two of `named` have one name, one is badly named, or one keeps too much history.
    pub fn new(default: Namespace, named: impl IntoIterator<Item = Namespace>) -> Result<Self, NamespaceError> {
        let default = Namespace { name: String::new(), ..default };
        default.check()?;
        let mut all = Self { default: Arc::new(default), ..Self::default() };
        for namespace in named {
            let name = namespace.name.clone();
            let topic = Topic::parse(&name).map_err(|error| NamespaceError::Name { name: name.clone(), error })?;
            namespace.check()?;
            all.depth_max = all.depth_max.max(topic.segments().count());
            if all.named.insert(name.clone(), Arc::new(namespace)).is_some() {
                return Err(NamespaceError::Twice { name });
            }
        }
        Ok(all)
    }

    /// Whether topics of several segments must belong to a namespace with a name: the default one is then for topics
    /// of a single segment. Default: not. Nothing here refuses others; see [`Namespaces::knows`].
    #[must_use]
    pub fn strict(mut self, is_strict: bool) -> Self {
        self.is_strict = is_strict;
        self
    }

    /// Whether there may be such a topic or pattern, as far as its namespace goes: always, unless they are
    /// [strict](Namespaces::strict).
    pub fn knows(&self, subject: &Subject) -> bool {
        match subject {
            Subject::Topic(topic) => self.knows_topic(topic),
            Subject::Pattern(pattern) => self.knows_name(pattern.as_str(), || self.of_pattern(pattern)),
        }
    }

    /// As [`Namespaces::knows`], of a topic.
    pub fn knows_topic(&self, topic: &Topic) -> bool {
        self.knows_name(topic.as_str(), || self.of(topic))
    }

    /// Looks up its namespace only if there is a question: this is asked for every publication.
    fn knows_name<'a>(&self, name: &str, namespace: impl FnOnce() -> &'a Arc<Namespace>) -> bool {
        !self.is_strict || !name.contains(SEPARATOR) || !namespace().name.is_empty()
    }

    /// The one that the topic belongs to.
    pub fn of(&self, topic: &Topic) -> &Arc<Namespace> {
        self.longest(topic.as_str())
    }

    /// The one that the pattern belongs to: what its subscriber needs permission for.
    pub fn of_pattern(&self, pattern: &Pattern) -> &Arc<Namespace> {
        self.longest(pattern.head())
    }

    /// Whether a subscriber of the pattern hears the topic: it matches, and belongs to the same namespace.
    pub fn hears(&self, pattern: &Pattern, topic: &Topic) -> bool {
        pattern.matches(topic) && self.of_pattern(pattern).name == self.of(topic).name
    }

    /// All of them, the default first, the others in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Namespace> {
        std::iter::once(&self.default).chain(self.named.values()).map(Arc::as_ref)
    }

    fn longest(&self, name: &str) -> &Arc<Namespace> {
        let ends = name.match_indices(SEPARATOR).map(|(at, _)| at).chain([name.len()]);
        let found = ends.take(self.depth_max).filter_map(|end| self.named.get(&name[..end])).last();
        found.unwrap_or(&self.default)
    }
}

impl Namespace {
    /// Whether a publication of so many bytes may be published.
    pub fn admits(&self, bytes: usize) -> bool {
        bytes <= self.message_bytes_max
    }

    fn check(&self) -> Result<(), NamespaceError> {
        if self.history_messages > HISTORY_MESSAGES_MAX {
            return Err(NamespaceError::History { name: self.name.clone(), messages: self.history_messages });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Namespace {
        Namespace { name: name.to_owned(), ..Namespace::default() }
    }

    fn some() -> Namespaces {
        Namespaces::new(named("ignored"), ["prices", "prices:vip", "game:eu"].map(named)).expect("they are good")
    }

    #[test]
    fn a_topic_belongs_to_the_longest_namespace_at_its_beginning() {
        let cases = [
            ("a", ""),
            ("ignored", ""),
            ("prices", "prices"),
            ("prices:EUR", "prices"),
            ("prices:vip", "prices:vip"),
            ("prices:vip:EUR:x", "prices:vip"),
            ("prices:vipX", "prices"),
            ("pricesX", ""),
            ("game", ""),
            ("game:us:1", ""),
            ("game:eu:1", "game:eu"),
        ];
        for (topic, want) in cases {
            assert_eq!(some().of(&Topic::parse(topic).expect(topic)).name, want, "{topic}");
        }
        let none = Namespaces::default();
        assert_eq!(none.of(&Topic::parse("prices:EUR").expect("good")).name, "");
    }

    #[test]
    fn strict_namespaces_know_what_is_named_and_single_segments() {
        let known = ["a", "pricesX", "*", "**", "prices", "prices:EUR", "prices:*", "prices:vip:**", "game:eu:1"];
        let unknown = ["a:b", "game:us", "pricesX:EUR", "*:EUR", "*:**", "game:*", "a:**"];
        let strict = some().strict(true);
        for name in known.into_iter().chain(unknown) {
            let subject = Subject::parse(name).expect(name);
            assert_eq!(strict.knows(&subject), known.contains(&name), "{name}");
            assert!(some().knows(&subject), "{name}");
        }
    }

    #[test]
    fn a_wildcard_never_crosses_into_another_namespace() {
        let cases = [
            ("**", &["a", "a:b", "game:us", "pricesX"][..], &["prices", "prices:EUR", "prices:vip:EUR", "game:eu"][..]),
            ("*:EUR", &["rates:EUR"], &["prices:EUR"]),
            ("prices:*", &["prices:EUR"], &["prices:vip"]),
            ("prices:**", &["prices:EUR", "prices:EUR:x"], &["prices:vip", "prices:vip:EUR"]),
            ("prices:*:EUR", &["prices:spot:EUR"], &["prices:vip:EUR"]),
            ("prices:vip:**", &["prices:vip:EUR"], &["prices:vip"]),
            ("game:*", &["game:us"], &["game:eu"]),
            ("game:**", &["game:us:1"], &["game:eu:1"]),
        ];
        for (pattern, yes, no) in cases {
            let pattern = Pattern::parse(pattern).expect(pattern);
            let hears = |topic: &&str| some().hears(&pattern, &Topic::parse(topic).expect(topic));
            assert!(yes.iter().all(hears), "{pattern} hears {yes:?}");
            assert!(!no.iter().any(hears), "{pattern} does not hear any of {no:?}");
        }
    }

    #[test]
    fn namespaces_that_cannot_be_say_why() {
        let error = |named: Vec<Namespace>| Namespaces::new(Namespace::default(), named).expect_err("bad").to_string();
        assert_eq!(error(vec![named("a"), named("b"), named("a")]), "there are two namespaces \"a\"");
        assert!(error(vec![named("a:")]).starts_with("the namespace \"a:\" is badly named: a segment is empty"));
        assert!(error(vec![named("")]).contains("must have a name"));
        let greedy = Namespace { history_messages: 1_000_001, ..named("a") };
        assert!(error(vec![greedy]).contains("keeps 1000001 publications"));
    }

    #[test]
    fn the_limit_of_a_publication_is_inclusive() {
        let namespace = Namespace { message_bytes_max: 10, ..Namespace::default() };
        assert!(namespace.admits(10) && !namespace.admits(11));
    }
}
