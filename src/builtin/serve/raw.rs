//! Clients that can only open a URL: topics in the query, bare data in both directions.

use std::borrow::Cow;

use bytes::Bytes;

use super::access;
use crate::handler::{CannotSubscribe, Conn, Delivery};
use crate::http::{QueryParams, Response};
use crate::protocol::MessageKind;
use crate::protocol::close::CloseCode;
use crate::topics::{DataKind, Draft, Refused, Subject};
use crate::wire::{Data, ErrorCode, bare};

/// Most topics and patterns in one URL.
const SUBJECTS_MAX: usize = 32;

/// What `topic=…&topic=…` asks for, each once, if it is permitted.
///
/// # Errors
///
/// The response that says what is wrong.
pub(super) fn subjects(conn: &Conn<'_>, params: QueryParams<'_>) -> Result<Box<[Subject]>, Response> {
    let mut subjects = Vec::new();
    for (_, name) in params.filter(|(key, _)| key == "topic") {
        let subject = access::subject(&name).map_err(|error| bad(&error.to_string()))?;
        let namespace = match &subject {
            Subject::Topic(topic) => conn.namespaces().of(topic),
            Subject::Pattern(pattern) => conn.namespaces().of_pattern(pattern),
        };
        access::check(namespace.subscribe).map_err(refusal)?;
        if !subjects.contains(&subject) {
            subjects.push(subject);
        }
        if subjects.len() > SUBJECTS_MAX {
            return Err(bad(&format!("more than {SUBJECTS_MAX} topics")));
        }
    }
    if subjects.is_empty() { Err(bad("no topic")) } else { Ok(subjects.into()) }
}

/// The WebSocket is open.
pub(super) fn open(conn: &mut Conn<'_>, subjects: Box<[Subject]>) {
    for subject in subjects {
        let subscribed = match &subject {
            Subject::Topic(topic) => {
                let want = access::newcomers(conn.namespaces().of(topic));
                conn.subscribe(topic, want, None)
            }
            Subject::Pattern(pattern) => conn.subscribe_pattern(pattern),
        };
        debug_assert_ne!(subscribed, Err(CannotSubscribe::Already), "each stands there once");
    }
}

/// What the client says is published in its one topic, as a string.
pub(super) fn publish(conn: &mut Conn<'_>, text: &str) {
    let [Subject::Topic(topic)] = &conn.subscriptions()[..] else {
        return conn.close(CloseCode::POLICY, "publishing needs exactly one topic");
    };
    if access::check(conn.namespaces().of(topic).publish).is_err() {
        return conn.close(CloseCode::POLICY, "clients may not publish here");
    }
    let draft = Draft { kind: DataKind::Text, data: Bytes::copy_from_slice(text.as_bytes()), key: None };
    match conn.publish(topic, draft) {
        Ok(()) => {}
        Err(Refused::TooLarge { .. }) => conn.close(CloseCode::TOO_BIG, "larger than the topic allows"),
        // There is no other way to tell that something was lost.
        Err(_) => conn.close(CloseCode::TRY_AGAIN_LATER, "the topic cannot be reached now"),
    }
}

/// A string as it is, anything else as JSON, bytes as bytes.
pub(super) fn encode(delivery: &Delivery<'_>) -> (MessageKind, Bytes) {
    let draft = &delivery.publication.draft;
    if draft.kind == DataKind::Json
        && let Ok(json) = std::str::from_utf8(&draft.data)
        && let Cow::Owned(text) = bare(Data::Json(json))
    {
        return (MessageKind::Text, text.into());
    }
    delivery.bare()
}

fn bad(what: &str) -> Response {
    Response::text(400, format!("Not subscribed: {what}. Connect to /ws?topic=NAME&topic=NAME.\n"))
}

fn refusal(code: ErrorCode) -> Response {
    match code {
        ErrorCode::TokenRequired => Response::text(401, "This topic needs a token.\n"),
        _ => Response::text(403, "Clients may not subscribe to this topic.\n"),
    }
}
