//! What a back end is asked, as JSON, and what its answer means.

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::backend::{Allowed, Denied, Question, Verdict};
use crate::topics::{Pattern, Topic};

/// The body of the request.
pub(super) fn encode(question: &Question) -> Vec<u8> {
    let form = match question {
        Question::Connect { connection, address, protocol, token, topics } => Form::Connect {
            connection: connection.to_string(),
            address: address.map(|address| address.to_string()),
            protocol,
            token: token.as_deref(),
            topics,
        },
        Question::Subscribe { connection, user, topic, token } => Form::Subscribe {
            connection: connection.to_string(),
            user: user.as_deref(),
            topic,
            token: token.as_deref(),
        },
    };
    serde_json::to_vec(&form).expect("there is nothing in it that is not JSON")
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Form<'a> {
    Connect {
        connection: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        address: Option<String>,
        protocol: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        token: Option<&'a str>,
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        topics: &'a [Box<str>],
    },
    Subscribe {
        connection: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        user: Option<&'a str>,
        topic: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        token: Option<&'a str>,
    },
}

/// An answer that means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadAnswer {
    #[error("its answer is not the JSON object that was asked for: {0}")]
    NotJson(String),
    #[error("in its answer, `{field}` must be {expected}")]
    Field { field: &'static str, expected: &'static str },
}

/// Fields beyond these are passed over.
#[derive(Deserialize)]
struct Answer<'a> {
    allow: bool,
    #[serde(borrow, default)]
    user: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    info: Option<&'a RawValue>,
    #[serde(default)]
    expires_in: Option<u64>,
    #[serde(default)]
    subscribe: Option<Vec<String>>,
    #[serde(default)]
    publish: Option<Vec<String>>,
    #[serde(default)]
    code: Option<u16>,
    #[serde(default)]
    reason: Option<String>,
}

/// Reads an answer to `question`.
pub(super) fn decode(question: &Question, body: &[u8]) -> Result<Verdict, BadAnswer> {
    let not_json = |error: serde_json::Error| BadAnswer::NotJson(error.to_string());
    // serde would take an array for the fields in their order.
    let object: &RawValue = serde_json::from_slice(body).map_err(not_json)?;
    if !object.get().starts_with('{') {
        return Err(BadAnswer::NotJson("it is no object".to_owned()));
    }
    let answer: Answer<'_> = serde_json::from_str(object.get()).map_err(not_json)?;
    if answer.allow { allowed(question, answer).map(Ok) } else { denied(answer).map(Err) }
}

fn allowed(question: &Question, answer: Answer<'_>) -> Result<Allowed, BadAnswer> {
    let user = answer.user.filter(|user| !user.is_empty());
    if user.as_ref().is_some_and(|user| user.len() > USER_BYTES_MAX) {
        return Err(BadAnswer::Field { field: "user", expected: "a string of at most 255 bytes" });
    }
    let says_more =
        answer.info.is_some() || answer.expires_in.is_some() || answer.subscribe.is_some() || answer.publish.is_some();
    if matches!(question, Question::Connect { .. }) && user.is_none() && says_more {
        return Err(BadAnswer::Field { field: "user", expected: "there where something is granted to it" });
    }
    let info = answer.info.map(RawValue::get);
    if info.is_some_and(|info| !info.starts_with('{') || info.len() > INFO_BYTES_MAX) {
        return Err(BadAnswer::Field { field: "info", expected: "an object of at most 8192 bytes" });
    }
    if answer.expires_in == Some(0) {
        return Err(BadAnswer::Field { field: "expires_in", expected: "a number of seconds above 0" });
    }
    Ok(Allowed {
        user: user.map(|user| user.into()),
        info: info.map(Box::from),
        expires_in: answer.expires_in.map(Duration::from_secs),
        subscribe: names("subscribe", answer.subscribe)?,
        publish: names("publish", answer.publish)?,
    })
}

fn denied(answer: Answer<'_>) -> Result<Denied, BadAnswer> {
    if answer.code.is_some_and(|code| !(4000..5000).contains(&code)) {
        return Err(BadAnswer::Field { field: "code", expected: "a close code from 4000 to 4999" });
    }
    let mut reason = answer.reason.unwrap_or_default();
    reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
    Ok(Denied::Refused { code: answer.code, reason: reason.into() })
}

fn names(field: &'static str, names: Option<Vec<String>>) -> Result<Vec<Box<str>>, BadAnswer> {
    let names = names.unwrap_or_default();
    let is_good = |name: &String| Topic::parse(name).is_ok() || Pattern::parse(name).is_ok();
    if names.len() > NAMES_MAX || !names.iter().all(is_good) {
        return Err(BadAnswer::Field { field, expected: "an array of at most 128 topics and patterns" });
    }
    Ok(names.into_iter().map(String::into_boxed_str).collect())
}

/// As in tokens.
const USER_BYTES_MAX: usize = 255;
/// As large as a whole token may be.
const INFO_BYTES_MAX: usize = 8192;
/// As in tokens.
const NAMES_MAX: usize = 128;
/// What a Close has room for (RFC 6455 §5.5).
const REASON_BYTES_MAX: usize = 123;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ConnId;

    const CONNECTION: ConnId = ConnId { core: 0, index: 17, generation: 3 };

    fn connect() -> Question {
        Question::Connect { connection: CONNECTION, address: None, protocol: "raw", token: None, topics: Vec::new() }
    }

    #[test]
    fn what_is_asked() {
        let cases = [
            (
                Question::Connect {
                    connection: CONNECTION,
                    address: Some([10, 0, 0, 9].into()),
                    protocol: "raw",
                    token: Some("a\"b".into()),
                    topics: vec!["news".into()],
                },
                r#"{"kind":"connect","connection":"0-17-3","address":"10.0.0.9","protocol":"raw","token":"a\"b","topics":["news"]}"#,
            ),
            (
                Question::Connect {
                    connection: CONNECTION,
                    address: None,
                    protocol: "corewire.v1",
                    token: None,
                    topics: Vec::new(),
                },
                r#"{"kind":"connect","connection":"0-17-3","protocol":"corewire.v1"}"#,
            ),
            (
                Question::Subscribe {
                    connection: CONNECTION,
                    user: Some("ada".into()),
                    topic: "chat:a".into(),
                    token: None,
                },
                r#"{"kind":"subscribe","connection":"0-17-3","user":"ada","topic":"chat:a"}"#,
            ),
        ];
        for (question, want) in cases {
            assert_eq!(String::from_utf8(encode(&question)).unwrap(), want);
        }
    }

    #[test]
    fn what_answers_mean() {
        let whole = r#" {"allow":true,"user":"ada","info":{"name":"Ada"},"expires_in":600,
            "subscribe":["chat:**","news"],"publish":["chat:*"],"more":[1]} "#;
        let allowed = Allowed {
            user: Some("ada".into()),
            info: Some("{\"name\":\"Ada\"}".into()),
            expires_in: Some(Duration::from_secs(600)),
            subscribe: vec!["chat:**".into(), "news".into()],
            publish: vec!["chat:*".into()],
        };
        let refused = |code, reason: &str| Err(Denied::Refused { code, reason: reason.into() });
        let cases = [
            (whole, Ok(allowed)),
            (r#"{"allow":true}"#, Ok(Allowed::default())),
            (r#"{"allow":true,"user":"","info":null,"expires_in":null,"subscribe":null}"#, Ok(Allowed::default())),
            (r#"{"allow":true,"code":17,"reason":"not looked at"}"#, Ok(Allowed::default())),
            (r#"{"allow":false}"#, refused(None, "")),
            (r#"{"allow":false,"code":4100,"reason":"banned","user":"not looked at"}"#, refused(Some(4100), "banned")),
        ];
        for (body, want) in cases {
            assert_eq!(decode(&connect(), body.as_bytes()), Ok(want), "{body}");
        }
    }

    #[test]
    fn a_subscription_needs_no_user() {
        let question = Question::Subscribe { connection: CONNECTION, user: None, topic: "a".into(), token: None };
        let allowed = decode(&question, br#"{"allow":true,"info":{},"expires_in":5}"#).unwrap().unwrap();
        let want = Allowed { info: Some("{}".into()), expires_in: Some(Duration::from_secs(5)), ..Allowed::default() };
        assert_eq!(allowed, want);
    }

    #[test]
    fn a_long_reason_is_cut_where_a_close_has_no_more_room() {
        let body = format!(r#"{{"allow":false,"reason":"{}"}}"#, "ä".repeat(100));
        let Ok(Err(Denied::Refused { reason, .. })) = decode(&connect(), body.as_bytes()) else { panic!("{body}") };
        assert_eq!(&*reason, "ä".repeat(61), "122 bytes: half a letter is none");
    }

    #[test]
    fn bad_answers_are_no_verdicts() {
        let long = |field: &str, value: String| format!(r#"{{"allow":true,"{field}":{value}}}"#);
        let cases = [
            (String::new(), "not the JSON"),
            ("ok".to_owned(), "not the JSON"),
            ("[true]".to_owned(), "no object"),
            ("{}".to_owned(), "allow"),
            (r#"{"allow":"yes"}"#.to_owned(), "not the JSON"),
            (r#"{"allow":true} {}"#.to_owned(), "trailing"),
            (r#"{"allow":true,"allow":false}"#.to_owned(), "duplicate"),
            (long("user", "7".into()), "not the JSON"),
            (long("user", format!("\"{}\"", "a".repeat(256))), "`user`"),
            (long("user", "\"a\",\"info\":[]".into()), "`info`"),
            (long("user", format!("\"a\",\"info\":{{\"a\":\"{}\"}}", "a".repeat(8192))), "`info`"),
            (long("user", "\"a\",\"expires_in\":0".into()), "`expires_in`"),
            (long("expires_in", "60".into()), "`user`"),
            (long("expires_in", "-1".into()), "not the JSON"),
            (long("subscribe", "\"a\"".into()), "not the JSON"),
            (long("subscribe", "[\"a\"]".into()), "`user`"),
            (long("user", "\"a\",\"subscribe\":[\"a::b\"]".into()), "`subscribe`"),
            (long("user", "\"a\",\"publish\":[\"a*\"]".into()), "`publish`"),
            (long("user", format!("\"a\",\"publish\":[{}\"a\"]", "\"a\",".repeat(128))), "`publish`"),
            (r#"{"allow":false,"code":1008}"#.to_owned(), "`code`"),
            (r#"{"allow":false,"code":5000}"#.to_owned(), "`code`"),
        ];
        for (body, says) in cases {
            let error = decode(&connect(), body.as_bytes()).expect_err(&body);
            assert!(error.to_string().contains(says), "{body}: {error}");
        }
        assert!(matches!(decode(&connect(), b"\xff"), Err(BadAnswer::NotJson(_))));
    }
}
