//! What a run is made of: namespaces that differ in everything that matters here, and the weather.

use std::sync::LazyLock;
use std::time::Duration;

use crate::connection::{Limits, Random};
use crate::topics::{Access, Namespace, Namespaces, Pattern, SlowConsumer, Subject, Topic};

/// Topics, by the namespace that they are in. Their homes are spread over the cores.
pub(super) const TOPICS: [&str; 10] =
    ["whole:a", "whole:b", "short:a", "none:a", "last:a", "drop:a", "latest:a", "latest:b", "else", "else:b"];

pub(super) const PATTERNS: [&str; 6] = ["whole:*", "**", "else:*", "latest:**", "none:*", "drop:*"];

pub(super) const USERS: [&str; 4] = ["ann", "bob", "cid", "dan"];

pub(super) const KEYS: [&str; 3] = ["EUR", "USD", "JPY"];

/// Which namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Keeps everything, knows its members.
    Whole,
    /// Keeps three for a second.
    Short,
    /// Keeps nothing.
    Nothing,
    /// Keeps the last one, and tells it to newcomers.
    Last,
    /// Keeps everything; slow consumers miss some.
    Drop,
    /// Keeps everything; slow consumers hear the newest of each key.
    Latest,
    /// The default.
    Else,
}

impl Kind {
    pub(super) fn of(topic: &str) -> Self {
        match topic.split(':').next().unwrap_or_default() {
            "whole" => Self::Whole,
            "short" => Self::Short,
            "none" => Self::Nothing,
            "last" => Self::Last,
            "drop" => Self::Drop,
            "latest" => Self::Latest,
            _ => Self::Else,
        }
    }

    pub(super) fn is_kept_whole(self) -> bool {
        matches!(self, Self::Whole | Self::Drop | Self::Latest)
    }

    /// Whoever reads too slowly is disconnected.
    pub(super) fn is_firm(self) -> bool {
        !matches!(self, Self::Drop | Self::Latest)
    }

    pub(super) fn knows_members(self) -> bool {
        self == Self::Whole
    }

    pub(super) fn keeps_last_value(self) -> bool {
        self == Self::Last
    }

    pub(super) fn hears(pattern: &Pattern, topic: &Topic) -> bool {
        NAMESPACES.hears(pattern, topic)
    }

    pub(super) fn is_heard_by(subject: &str, topic: &Topic) -> bool {
        match Subject::parse(subject).expect("a good one") {
            Subject::Topic(other) => other == *topic,
            Subject::Pattern(pattern) => Self::hears(&pattern, topic),
        }
    }
}

/// How topics behave.
pub(super) static NAMESPACES: LazyLock<Namespaces> = LazyLock::new(|| {
    let named = |name: &str| Namespace { name: name.to_owned(), publish: Access::Public, ..Namespace::default() };
    let whole = |name: &str| Namespace {
        history_messages: 100_000,
        history_bytes: usize::MAX,
        history_ttl: Duration::from_secs(1_000_000),
        ..named(name)
    };
    let all = [
        Namespace { presence: true, ..whole("whole") },
        Namespace { history_messages: 3, history_ttl: Duration::from_secs(1), ..named("short") },
        Namespace { history_messages: 0, ..named("none") },
        Namespace { history_messages: 1, ..named("last") },
        Namespace { slow_consumer: SlowConsumer::DropOldest, ..whole("drop") },
        Namespace { slow_consumer: SlowConsumer::Latest, ..whole("latest") },
    ];
    Namespaces::new(Namespace { publish: Access::Public, ..Namespace::default() }, all).expect("they are good")
});

/// What kind of weather it is.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) core_count: usize,
    pub(super) ring_capacity: usize,
    pub(super) client_count: usize,
    pub(super) connections_max: usize,
    pub(super) limits: Limits,
    /// Bytes between a core and a client who does not read.
    pub(super) link_bytes: usize,
    pub(super) steps: u64,
}

impl Plan {
    /// Fair weather, for scripts.
    pub(super) fn calm(core_count: usize, queued_bytes_max: usize) -> Self {
        Self {
            core_count,
            ring_capacity: 64,
            client_count: 0,
            connections_max: usize::MAX,
            limits: Limits { queued_bytes_max, queued_bytes_pause: queued_bytes_max, ..Limits::default() },
            link_bytes: 1 << 20,
            steps: 0,
        }
    }

    pub(super) fn new(random: &mut Random) -> Self {
        let client_count = 4 + random.below(12) as usize;
        let is_crowded = random.below(6) == 0;
        // A client that does not read is heard all the same, or is not.
        let pauses = random.below(2) == 0;
        let queued_bytes_max = [1500, 4000, 20_000][random.below(3) as usize];
        let limits = Limits {
            queued_bytes_max,
            queued_bytes_pause: if pauses { queued_bytes_max / 4 } else { queued_bytes_max },
            handshake_timeout: Duration::from_secs(4),
            ping_interval: Duration::from_secs(2 + random.below(4)),
            idle_timeout: Duration::from_secs(8 + random.below(20)),
            close_timeout: Duration::from_secs(1 + random.below(4)),
            ..Limits::default()
        };
        Self {
            core_count: 1 + random.below(4) as usize,
            ring_capacity: [1, 1, 2, 4, 16, 64][random.below(6) as usize],
            client_count,
            connections_max: if is_crowded { client_count } else { usize::MAX },
            limits,
            link_bytes: 60 + random.below(2000) as usize,
            steps: 300 + random.below(900),
        }
    }
}
