//! A batch of events as the JSON that a webhook carries.

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::backend::{Client, Event};
use crate::topics::{DataKind, Draft, Position, Subject, Topic};

/// Milliseconds since the beginning of 1970 in UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub(super) struct UnixMillis(pub(super) u64);

impl UnixMillis {
    /// The millisecond that is under way at `time`; zero before 1970.
    pub(super) fn at(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

/// One event as it stands in the array; fields that say nothing are left out.
#[derive(Default, Serialize)]
struct Row<'a> {
    seq: u64,
    at: UnixMillis,
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    connection: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
    /// Bytes that have no form in JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
}

/// Adds one event to the elements of an array.
pub(super) fn push_event(elements: &mut Vec<u8>, seq: u64, at: UnixMillis, event: &Event) {
    if !elements.is_empty() {
        elements.push(b',');
    }
    let row = Row { seq, at, event: event.kind().name(), ..row(event) };
    serde_json::to_writer(elements, &row).expect("a vector takes all, and no key of a map is anything but text");
}

/// The body with these elements. `stream` names one life of the process: sequence numbers begin anew in another.
pub(super) fn body(stream: &str, elements: &[u8]) -> Vec<u8> {
    [b"{\"stream\":\"", stream.as_bytes(), b"\",\"events\":[", elements, b"]}"].concat()
}

fn row(event: &Event) -> Row<'_> {
    match event {
        Event::Connected { client, address, protocol } => {
            Row { address: address.map(|address| address.to_string()), protocol: Some(protocol), ..of(client) }
        }
        Event::Disconnected { client, code, cause } => Row { code: Some(*code), cause: Some(cause), ..of(client) },
        Event::Subscribed { client, subject } | Event::Unsubscribed { client, subject } => {
            Row { topic: Some(name(subject)), ..of(client) }
        }
        Event::Occupied(topic) | Event::Vacated(topic) => Row { topic: Some(topic.as_str()), ..Row::default() },
        Event::Published { client, topic, position: Position { epoch, offset }, draft } => Row {
            epoch: Some(format!("{:016x}", epoch.number())),
            offset: Some(*offset),
            ..of_publication(client, topic, draft)
        },
        Event::Unanswered { client, topic, draft } => of_publication(client, topic, draft),
    }
}

fn of_publication<'a>(client: &'a Client, topic: &'a Topic, draft: &'a Draft) -> Row<'a> {
    let (data, data_base64) = data(draft.kind, &draft.data);
    Row { topic: Some(topic.as_str()), key: draft.key.as_deref(), data, data_base64, ..of(client) }
}

fn of(client: &Client) -> Row<'_> {
    Row { connection: Some(client.connection.to_string()), user: client.user.as_deref(), ..Row::default() }
}

/// JSON as it stands, text as a string; what is neither, whatever it calls itself, as base64.
fn data(kind: DataKind, data: &[u8]) -> (Option<Box<RawValue>>, Option<String>) {
    let json = match (kind, std::str::from_utf8(data)) {
        (DataKind::Json, Ok(json)) => Some(Cow::Borrowed(json)),
        (DataKind::Text, Ok(text)) => serde_json::to_string(text).ok().map(Cow::Owned),
        (DataKind::Binary, _) | (_, Err(_)) => None,
    };
    match json.and_then(|json| RawValue::from_string(json.into_owned()).ok()) {
        Some(raw) => (Some(raw), None),
        None => (None, Some(STANDARD.encode(data))),
    }
}

fn name(subject: &Subject) -> &str {
    match subject {
        Subject::Topic(topic) => topic.as_str(),
        Subject::Pattern(pattern) => pattern.as_str(),
    }
}

/// What an event takes while it waits, near enough: itself, what lies beside it, and its place in the queue.
pub(super) fn size(event: &Event) -> usize {
    let beside = match event {
        Event::Connected { client, .. } | Event::Disconnected { client, .. } => user(client),
        Event::Subscribed { client, subject } | Event::Unsubscribed { client, subject } => {
            user(client) + name(subject).len()
        }
        Event::Occupied(topic) | Event::Vacated(topic) => topic.as_str().len(),
        Event::Published { client, topic, draft, .. } | Event::Unanswered { client, topic, draft } => {
            user(client) + topic.as_str().len() + draft.data.len() + draft.key.as_deref().map_or(0, str::len)
        }
    };
    EVENT_BYTES + beside
}

fn user(client: &Client) -> usize {
    client.user.as_deref().map_or(0, str::len)
}

/// An entry of the queue.
const EVENT_BYTES: usize = 192;

const _: () = assert!(size_of::<Event>() + size_of::<u64>() * 5 <= EVENT_BYTES);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ids::ConnId;
    use crate::topics::{Epoch, Pattern};

    fn client(user: Option<&str>) -> Client {
        Client { connection: ConnId { core: 1, index: 17, generation: 3 }, user: user.map(Arc::from) }
    }

    fn published(kind: DataKind, data: &'static [u8]) -> Event {
        Event::Published {
            client: client(None),
            topic: Topic::parse("a").unwrap(),
            position: Position { epoch: Epoch::new(0xf1e2), offset: 42 },
            draft: Draft { kind, data: data.into(), key: None, publisher: None },
        }
    }

    #[test]
    fn every_event_has_its_form() {
        let topic = || Topic::parse("chat:\"x\"").unwrap();
        let subject = || Subject::Pattern(Pattern::parse("chat:*").unwrap());
        let cases = [
            (
                Event::Connected {
                    client: client(Some("ada")),
                    address: Some([10, 0, 0, 9].into()),
                    protocol: "corewire.v1",
                },
                r#""event":"connected","connection":"1-17-3","user":"ada","address":"10.0.0.9","protocol":"corewire.v1""#,
            ),
            (
                Event::Disconnected { client: client(None), code: 1001, cause: "peer" },
                r#""event":"disconnected","connection":"1-17-3","code":1001,"cause":"peer""#,
            ),
            (
                Event::Subscribed { client: client(Some("a\"b")), subject: subject() },
                r#""event":"subscribed","connection":"1-17-3","user":"a\"b","topic":"chat:*""#,
            ),
            (
                Event::Unsubscribed { client: client(None), subject: Subject::Topic(topic()) },
                r#""event":"unsubscribed","connection":"1-17-3","topic":"chat:\"x\"""#,
            ),
            (Event::Occupied(topic()), r#""event":"occupied","topic":"chat:\"x\"""#),
            (Event::Vacated(topic()), r#""event":"vacated","topic":"chat:\"x\"""#),
            (
                published(DataKind::Json, b"{\"a\": [1]}"),
                r#""event":"published","connection":"1-17-3","topic":"a","epoch":"000000000000f1e2","offset":42,"data":{"a": [1]}"#,
            ),
            (
                Event::Unanswered {
                    client: client(Some("ada")),
                    topic: topic(),
                    draft: Draft { kind: DataKind::Text, data: "hi".into(), key: Some("k".into()), publisher: None },
                },
                r#""event":"unanswered","connection":"1-17-3","user":"ada","topic":"chat:\"x\"","key":"k","data":"hi""#,
            ),
        ];
        for (event, want) in cases {
            let mut elements = Vec::new();
            push_event(&mut elements, 7, UnixMillis(1_700_000_000_123), &event);
            assert_eq!(
                String::from_utf8(elements).unwrap(),
                format!(r#"{{"seq":7,"at":1700000000123,{want}}}"#),
                "{event:?}"
            );
        }
    }

    #[test]
    fn data_of_every_kind() {
        let cases: &[(DataKind, &'static [u8], &str)] = &[
            (DataKind::Json, b"null", r#""data":null"#),
            (DataKind::Text, b"a \"b\"\n", r#""data":"a \"b\"\n""#),
            (DataKind::Binary, b"\x00\xff", r#""data_base64":"AP8=""#),
            // An embedder's handler may publish what it does not keep its word about: the batch must stay JSON.
            (DataKind::Json, b"{oops", r#""data_base64":"e29vcHM=""#),
            (DataKind::Text, b"\xff", r#""data_base64":"/w==""#),
        ];
        for (kind, data, want) in cases {
            let mut elements = Vec::new();
            push_event(&mut elements, 1, UnixMillis(0), &published(*kind, data));
            let text = String::from_utf8(elements).unwrap();
            assert!(text.ends_with(&format!("{want}}}")), "{text}");
        }
    }

    #[test]
    fn a_body_is_json() {
        let mut elements = Vec::new();
        push_event(&mut elements, 1, UnixMillis(5), &Event::Occupied(Topic::parse("a").unwrap()));
        push_event(&mut elements, 2, UnixMillis(6), &Event::Vacated(Topic::parse("a").unwrap()));
        let read: serde_json::Value = serde_json::from_slice(&body("00ff", &elements)).unwrap();
        assert_eq!(read["stream"], "00ff");
        assert_eq!(read["events"][1], serde_json::json!({"seq": 2, "at": 6, "event": "vacated", "topic": "a"}));
        let empty: serde_json::Value = serde_json::from_slice(&body("00ff", &[])).unwrap();
        assert_eq!(empty["events"], serde_json::json!([]));
    }

    #[test]
    fn the_size_counts_what_is_held() {
        let small = size(&published(DataKind::Text, b""));
        assert_eq!(size(&published(DataKind::Text, b"0123456789")), small + 10);
        assert_eq!(size(&Event::Occupied(Topic::parse("abc").unwrap())), EVENT_BYTES + 3);
    }

    #[test]
    fn times_before_1970_do_no_harm() {
        assert_eq!(UnixMillis::at(UNIX_EPOCH - Duration::from_secs(1)), UnixMillis(0));
        assert_eq!(UnixMillis::at(UNIX_EPOCH + Duration::from_millis(1234)), UnixMillis(1234));
    }
}
