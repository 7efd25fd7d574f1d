//! The rows of the table that are about webhooks and the connect proxy.

use std::time::Duration;

use super::table::{GIB, HOUR, KIB, MILLISECOND};
use super::{Accepts, Fallback, Group, Input, OptionSpec, Shown};
use crate::backend::EventKind;
use crate::config::parse;
use crate::webhooks::{BadEndpoint, Endpoint};

pub(super) const WEBHOOK_URL: OptionSpec = OptionSpec {
    name: "webhook-url",
    value_name: "URL",
    group: Group::BackEnd,
    repeatable: false,
    accepts: Accepts::Form(URL_FORM),
    default: Fallback::Unset("events are told to nobody"),
    help: "Where events go, by POST, signed: who connects, subscribes and publishes, which topics are in use",
    more: "For serve only. Needs --webhook-secret-file. What a back end gets and how it checks it: docs/OPERATIONS.md.",
    set: |draft, input| endpoint(input).map(|url| draft.config.back_end.webhook_url = Some(url)),
    get: |config| config.back_end.webhook_url.as_ref().map_or(Shown::Unset, Shown::text),
};

pub(super) const WEBHOOK_SECRET_FILE: OptionSpec = OptionSpec {
    name: "webhook-secret-file",
    value_name: "FILE",
    group: Group::BackEnd,
    repeatable: false,
    accepts: Accepts::Form("a file with a text of at least 16 bytes, such as openssl rand -hex 32 makes"),
    default: Fallback::Unset("none"),
    help: "What requests to --webhook-url and --connect-proxy are signed with",
    more: "White space around it does not count.",
    set: |draft, input| input.path().map(|path| draft.config.back_end.secret_file = Some(path)),
    get: |config| match &config.back_end.secret_file {
        Some(path) => Shown::text(path.display()),
        None => Shown::Unset,
    },
};

pub(super) const WEBHOOK_EVENTS: OptionSpec = OptionSpec {
    name: "webhook-events",
    value_name: "KIND",
    group: Group::BackEnd,
    repeatable: true,
    accepts: Accepts::Form(
        "any of connected, disconnected, subscribed, unsubscribed, occupied, vacated, published, unanswered, each once",
    ),
    default: Fallback::Value("connected,disconnected,subscribed,unsubscribed,occupied,vacated,published,unanswered"),
    help: "Which events are told",
    more: "occupied and vacated are about topics: somebody has subscribed where nobody had, and the last one is gone. \
           published carries what clients publish, and unanswered that of which no core said in time whether it was \
           accepted; publications through the HTTP API are not told.",
    set: |draft, input| {
        let kinds = input.each(|name| {
            EventKind::from_name(name).ok_or_else(|| {
                match parse::nearest(name, EventKind::ALL.iter().map(|kind| kind.name())) {
                    Some(near) => format!("there is no event `{name}`; perhaps {near}"),
                    None => format!("there is no event `{name}`"),
                }
            })
        })?;
        if let Some(twice) = kinds.iter().enumerate().find(|(at, kind)| kinds[..*at].contains(kind)) {
            return Err(format!("{} is given twice", twice.1.name()));
        }
        draft.config.back_end.events = kinds.into_iter().collect();
        Ok(())
    },
    get: |config| Shown::List(config.back_end.events.iter().map(|kind| kind.name().to_owned()).collect()),
};

pub(super) const WEBHOOK_BATCH_EVENTS: OptionSpec = OptionSpec {
    name: "webhook-batch-events",
    value_name: "N",
    group: Group::BackEnd,
    repeatable: false,
    accepts: Accepts::Count(1..=10_000, None),
    default: Fallback::Value("100"),
    help: "Most events in a request",
    more: "A request also ends with the event that makes it larger than 1 MiB.",
    set: |draft, input| count(input).map(|count| draft.config.back_end.batch_events = count),
    get: |config| Shown::Number(config.back_end.batch_events as u64),
};

pub(super) const WEBHOOK_BATCH_WAIT: OptionSpec = OptionSpec {
    name: "webhook-batch-wait",
    value_name: "DURATION",
    group: Group::BackEnd,
    repeatable: false,
    accepts: Accepts::Span(MILLISECOND..=Duration::from_secs(60), Some("not at all")),
    default: Fallback::Value("100ms"),
    help: "How long an event waits for others that share its request",
    more: "",
    set: |draft, input| input.span().map(|span| draft.config.back_end.batch_wait = span),
    get: |config| Shown::span(config.back_end.batch_wait),
};

pub(super) const WEBHOOK_QUEUE_EVENTS: OptionSpec = OptionSpec {
    name: "webhook-queue-events",
    value_name: "N",
    group: Group::BackEnd,
    repeatable: false,
    accepts: Accepts::Count(1..=100_000_000, None),
    default: Fallback::Value("100k"),
    help: "Most events that wait to be delivered; those beyond are lost, counted, and a gap in the sequence",
    more: "",
    set: |draft, input| count(input).map(|count| draft.config.back_end.queue_events = count),
    get: |config| Shown::Number(config.back_end.queue_events as u64),
};

pub(super) const WEBHOOK_QUEUE_BYTES: OptionSpec = OptionSpec {
    name: "webhook-queue-bytes",
    value_name: "SIZE",
    group: Group::BackEnd,
    repeatable: false,
    accepts: Accepts::Size(4 * KIB..=1024 * GIB),
    default: Fallback::Value("64MiB"),
    help: "Most memory for events that wait to be delivered; those beyond are lost in the same way",
    more: "",
    set: |draft, input| input.size().map(|bytes| draft.config.back_end.queue_bytes = bytes),
    get: |config| Shown::size(config.back_end.queue_bytes),
};

pub(super) const WEBHOOK_TIMEOUT: OptionSpec = OptionSpec {
    name: "webhook-timeout",
    value_name: "DURATION",
    group: Group::BackEnd,
    repeatable: false,
    accepts: Accepts::Span(MILLISECOND..=HOUR, None),
    default: Fallback::Value("10s"),
    help: "How long a request with events may take, before it counts as failed",
    more: "",
    set: |draft, input| input.span().map(|span| draft.config.back_end.webhook_timeout = span),
    get: |config| Shown::span(config.back_end.webhook_timeout),
};

pub(super) const WEBHOOK_RETRY_MIN: OptionSpec = OptionSpec {
    name: "webhook-retry-min",
    value_name: "DURATION",
    group: Group::BackEnd,
    repeatable: false,
    accepts: Accepts::Span(MILLISECOND..=HOUR, None),
    default: Fallback::Value("500ms"),
    help: "Wait after the first failure, up to half of it less at random; doubled with each further one",
    more: "",
    set: |draft, input| input.span().map(|span| draft.config.back_end.retry_min = span),
    get: |config| Shown::span(config.back_end.retry_min),
};

pub(super) const WEBHOOK_RETRY_MAX: OptionSpec = OptionSpec {
    name: "webhook-retry-max",
    value_name: "DURATION",
    group: Group::BackEnd,
    repeatable: false,
    accepts: Accepts::Span(MILLISECOND..=HOUR, None),
    default: Fallback::Value("30s"),
    help: "Longest wait after a failure",
    more: "",
    set: |draft, input| input.span().map(|span| draft.config.back_end.retry_max = span),
    get: |config| Shown::span(config.back_end.retry_max),
};

pub(super) const WEBHOOK_DRAIN_TIME: OptionSpec = OptionSpec {
    name: "webhook-drain-time",
    value_name: "DURATION",
    group: Group::BackEnd,
    repeatable: false,
    accepts: Accepts::Span(MILLISECOND..=HOUR, Some("nothing is delivered any more")),
    default: Fallback::Value("5s"),
    help: "How long the last events may take to be delivered, when all connections have ended",
    more: "It comes on top of --drain-delay and --drain-time.",
    set: |draft, input| input.span().map(|span| draft.config.back_end.drain_time = span),
    get: |config| Shown::span(config.back_end.drain_time),
};

pub(super) const CONNECT_PROXY: OptionSpec = OptionSpec {
    name: "connect-proxy",
    value_name: "URL",
    group: Group::BackEnd,
    repeatable: false,
    accepts: Accepts::Form(URL_FORM),
    default: Fallback::Unset("nobody is asked"),
    help: "Back end that decides about each connection, and about subscriptions that nothing else allows",
    more: "For serve only. It is asked by POST, and answers with JSON: docs/OPERATIONS.md. While it cannot be reached, \
           no client is let in.",
    set: |draft, input| endpoint(input).map(|url| draft.config.back_end.proxy_url = Some(url)),
    get: |config| config.back_end.proxy_url.as_ref().map_or(Shown::Unset, Shown::text),
};

pub(super) const CONNECT_PROXY_TIMEOUT: OptionSpec = OptionSpec {
    name: "connect-proxy-timeout",
    value_name: "DURATION",
    group: Group::BackEnd,
    repeatable: false,
    accepts: Accepts::Span(MILLISECOND..=HOUR, None),
    default: Fallback::Value("3s"),
    help: "How long a verdict may take; then the client is refused, and may try again",
    more: "Less than --handshake-timeout.",
    set: |draft, input| input.span().map(|span| draft.config.back_end.proxy_timeout = span),
    get: |config| Shown::span(config.back_end.proxy_timeout),
};

pub(super) const CONNECT_PROXY_REQUESTS: OptionSpec = OptionSpec {
    name: "connect-proxy-requests",
    value_name: "N",
    group: Group::BackEnd,
    repeatable: false,
    accepts: Accepts::Count(1..=10_000, None),
    default: Fallback::Value("64"),
    help: "Most questions that are asked at a time; others wait for their turn, within --connect-proxy-timeout",
    more: "",
    set: |draft, input| count(input).map(|count| draft.config.back_end.proxy_requests = count),
    get: |config| Shown::Number(config.back_end.proxy_requests as u64),
};

const URL_FORM: &str = "a URL such as https://example.com/corewire or http://127.0.0.1:3000/corewire";

fn endpoint(input: &Input<'_>) -> Result<Endpoint, String> {
    input.one()?.parse().map_err(|error: BadEndpoint| error.to_string())
}

fn count(input: &Input<'_>) -> Result<usize, String> {
    usize::try_from(input.count()?).map_err(|_| "it is too large".to_owned())
}
