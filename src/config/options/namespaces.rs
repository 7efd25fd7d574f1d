//! The keys of a `[namespace.NAME]` table: the one place where each is defined.

use std::time::Duration;

use super::table::RATE;
use super::{Accepts, Input, SWITCH, Shown};
use crate::topics::{Access, HISTORY_MESSAGES_MAX, Namespace, SlowConsumer};

/// One key.
#[derive(Debug)]
pub struct NamespaceKey {
    /// As it stands in the file; underscores are as good as dashes.
    pub name: &'static str,
    /// Which values it takes.
    pub accepts: Accepts,
    /// What holds in the default namespace when the file says nothing.
    pub default: &'static str,
    /// Whole sentences.
    pub help: &'static str,
    pub(in super::super) set: fn(&mut Namespace, &Input<'_>) -> Result<(), String>,
    pub(in super::super) get: fn(&Namespace) -> Shown,
}

/// Every key, in the order of the reference.
pub static NAMESPACE_KEYS: &[NamespaceKey] = &[
    NamespaceKey {
        name: "subscribe",
        accepts: Accepts::Word(&["public", "token", "signed", "nobody"]),
        default: "public",
        help: "Which clients may subscribe: all of them; those whose connection's token has the topic in its claim \
               `subscribe`; those with a token for this very topic; none.",
        set: |namespace, input| input.word(&ACCESSES).map(|access| namespace.subscribe = access),
        get: |namespace| word(access_place(namespace.subscribe), ACCESS_WORDS),
    },
    NamespaceKey {
        name: "publish",
        accepts: Accepts::Word(&["public", "token", "nobody"]),
        default: "nobody",
        help: "Which clients may publish: all of them; those whose connection's token has the topic in its claim \
               `publish`; none. Back ends always may.",
        set: |namespace, input| {
            if input.one()? == "signed" {
                return Err(
                    "a token for one topic is for subscribing and for nothing else; `token` may be meant".into()
                );
            }
            input.word(&[Access::Public, Access::Token, Access::Nobody]).map(|access| namespace.publish = access)
        },
        get: |namespace| word(access_place(namespace.publish), ACCESS_WORDS),
    },
    NamespaceKey {
        name: "history-messages",
        accepts: Accepts::Count(0..=HISTORY_MESSAGES_MAX as u64, None),
        default: "100",
        help: "Publications that a topic keeps for clients that come back. With 1, who subscribes gets the last one.",
        set: |namespace, input| {
            namespace.history_messages = input.count()? as usize;
            Ok(())
        },
        get: |namespace| Shown::Number(namespace.history_messages as u64),
    },
    NamespaceKey {
        name: "history-ttl",
        accepts: Accepts::Span(Duration::from_secs(1)..=Duration::from_secs(31_557_600), None),
        default: "1m",
        help: "How long it keeps each of them.",
        set: |namespace, input| input.span().map(|span| namespace.history_ttl = span),
        get: |namespace| Shown::span(namespace.history_ttl),
    },
    NamespaceKey {
        name: "history-bytes",
        accepts: Accepts::Size(1 << 10..=1 << 36),
        default: "1MiB",
        help: "Bytes of content that a topic keeps at most.",
        set: |namespace, input| input.size().map(|bytes| namespace.history_bytes = bytes),
        get: |namespace| Shown::size(namespace.history_bytes),
    },
    NamespaceKey {
        name: "presence",
        accepts: Accepts::Word(SWITCH),
        default: "off",
        help: "Whether topics know who is there: users of clients with a token. `true` and `false` are as good.",
        set: |namespace, input| input.word(&[false, true]).map(|presence| namespace.presence = presence),
        get: |namespace| word(usize::from(namespace.presence), SWITCH),
    },
    NamespaceKey {
        name: "publisher",
        accepts: Accepts::Word(SWITCH),
        default: "off",
        help: "Whether subscribers are told which user has published something, by the token of the client that did.",
        set: |namespace, input| input.word(&[false, true]).map(|publisher| namespace.publisher = publisher),
        get: |namespace| word(usize::from(namespace.publisher), SWITCH),
    },
    NamespaceKey {
        name: "slow-consumer",
        accepts: Accepts::Word(SLOW_WORDS),
        default: "disconnect",
        help: "What becomes of a subscriber that reads too slowly: it is closed with 4006 and may come back; it loses \
               the oldest that wait; of those with one `key` it gets only the newest.",
        set: |namespace, input| input.word(&SLOW).map(|policy| namespace.slow_consumer = policy),
        get: |namespace| {
            let place = SLOW.iter().position(|policy| *policy == namespace.slow_consumer);
            word(place.unwrap_or_default(), SLOW_WORDS)
        },
    },
    NamespaceKey {
        name: "message-bytes-max",
        accepts: Accepts::Size(1..=1 << 32),
        default: "64KiB",
        help: "Largest publication, content and key together.",
        set: |namespace, input| input.size().map(|bytes| namespace.message_bytes_max = bytes),
        get: |namespace| Shown::size(namespace.message_bytes_max),
    },
    NamespaceKey {
        name: "publish-rate",
        accepts: Accepts::Form(RATE),
        default: "0",
        help: "How fast one client may publish to all topics of the namespace together; as many at once as in one such \
               time.",
        set: |namespace, input| input.rate().map(|rate| namespace.publish_rate = rate),
        get: |namespace| Shown::rate(namespace.publish_rate.as_ref()),
    },
];

/// The key of that name.
pub(in super::super) fn find(name: &str) -> Option<&'static NamespaceKey> {
    NAMESPACE_KEYS.iter().find(|key| key.name == name)
}

fn word(place: usize, words: &[&str]) -> Shown {
    Shown::text(words[place])
}

fn access_place(access: Access) -> usize {
    ACCESSES.iter().position(|other| *other == access).unwrap_or_default()
}

const ACCESSES: [Access; 4] = [Access::Public, Access::Token, Access::Signed, Access::Nobody];
const ACCESS_WORDS: &[&str] = &["public", "token", "signed", "nobody"];
const SLOW: [SlowConsumer; 3] = [SlowConsumer::Disconnect, SlowConsumer::DropOldest, SlowConsumer::Latest];
const SLOW_WORDS: &[&str] = &["disconnect", "drop-oldest", "latest"];
