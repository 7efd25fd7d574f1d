//! What is known of a topic: its figures, its members, its history.

use std::borrow::Cow;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Api;
use super::body::page_limit;
use super::error::{ApiError, ErrorCode};
use crate::topics::{self, Answer, DataKind, Horizon, Position, Read, Topic};

type TopicPath = Result<Path<String>, PathRejection>;

#[derive(Debug, Serialize)]
pub(super) struct Info {
    topic: String,
    #[serde(flatten)]
    standing: Standing,
    history_messages: usize,
    history_bytes: usize,
    members: usize,
    connections: u64,
    subscribers: u64,
    silent_cores: Vec<usize>,
}

/// Where a topic stands; nothing of it if its core does not know it.
#[derive(Debug, Default, Serialize)]
struct Standing {
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest: Option<u64>,
}

#[derive(Debug, Serialize)]
pub(super) struct Presence {
    topic: String,
    members: Vec<Member>,
}

#[derive(Debug, Serialize)]
struct Member {
    user: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    info: Option<Box<RawValue>>,
    connections: u32,
}

#[derive(Debug, Serialize)]
pub(super) struct History {
    topic: String,
    #[serde(flatten)]
    standing: Standing,
    #[serde(skip_serializing_if = "Option::is_none")]
    recovered: Option<bool>,
    publications: Vec<Publication>,
}

#[derive(Debug, Serialize)]
struct Publication {
    offset: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(flatten)]
    content: Content,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Content {
    Data(Data),
    /// Bytes have no form in JSON.
    Base64(String),
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Data {
    Json(Box<RawValue>),
    Text(String),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HistoryParams {
    since: Option<String>,
    limit: Option<String>,
}

/// `GET /topics/{topic}`
pub(super) async fn info(State(api): State<Api>, path: TopicPath) -> Result<Json<Info>, ApiError> {
    let topic = topic(&api, path)?;
    let Answer::Info(info) = read(&api, &topic, Read::Info).await? else { return Err(ApiError::confused()) };
    Ok(Json(Info {
        topic: topic.to_string(),
        standing: Standing::of(info.horizon),
        history_messages: info.history_messages,
        history_bytes: info.history_bytes,
        members: info.members,
        connections: info.connections,
        subscribers: info.counts.tally.subscribers,
        silent_cores: info.counts.silent,
    }))
}

/// `GET /topics/{topic}/presence`
pub(super) async fn presence(State(api): State<Api>, path: TopicPath) -> Result<Json<Presence>, ApiError> {
    let topic = topic(&api, path)?;
    if !api.settings.namespaces().of(&topic).presence {
        return Err(ApiError::new(ErrorCode::PresenceDisabled, "the topic's namespace keeps no presence"));
    }
    let Answer::Members(members) = read(&api, &topic, Read::Members).await? else { return Err(ApiError::confused()) };
    let members = members.into_iter().map(Member::from).collect();
    Ok(Json(Presence { topic: topic.to_string(), members }))
}

/// `GET /topics/{topic}/history`
pub(super) async fn history(
    State(api): State<Api>,
    path: TopicPath,
    params: Result<Query<HistoryParams>, QueryRejection>,
) -> Result<Json<History>, ApiError> {
    let topic = topic(&api, path)?;
    let Query(HistoryParams { since, limit }) =
        params.map_err(|rejection| ApiError::bad_field(rejection.body_text()))?;
    let since = since.map(|since| since.parse::<Position>()).transpose();
    let since = since.map_err(|bad| ApiError::bad_field(format!("`since`: {bad}")))?;
    let limit = page_limit(limit.as_deref())?;
    let Answer::History { horizon, publications } = read(&api, &topic, Read::History { since, limit }).await? else {
        return Err(ApiError::confused());
    };
    let recovered = since.map(|since| {
        let oldest_told = publications.first().map(|first| first.offset);
        horizon.is_some_and(|horizon| {
            horizon.recovers(since).is_ok() && oldest_told.is_none_or(|oldest| oldest == since.offset + 1)
        })
    });
    let publications = publications.into_iter().map(Publication::from).collect();
    Ok(Json(History { topic: topic.to_string(), standing: Standing::of(horizon), recovered, publications }))
}

async fn read(api: &Api, topic: &Topic, what: Read) -> Result<Answer, ApiError> {
    let asked = api.bridge.ask(topic, api.bridge.give_up_at(), |handle, ticket| handle.read(topic, what, ticket));
    match asked.await?.answer().await? {
        Answer::Refused(refused) => Err(refused.into()),
        answer => Ok(answer),
    }
}

fn topic(api: &Api, path: TopicPath) -> Result<Topic, ApiError> {
    let Path(name) = path.map_err(|_| ApiError::new(ErrorCode::BadTopic, "the name of the topic is not UTF-8"))?;
    api.topic(&name)
}

impl Standing {
    fn of(horizon: Option<Horizon>) -> Self {
        horizon.map_or_else(Self::default, |Horizon { position, oldest }| Self {
            epoch: Some(position.epoch.to_string()),
            offset: Some(position.offset),
            oldest: Some(oldest),
        })
    }
}

impl From<topics::Attendee> for Member {
    fn from(attendee: topics::Attendee) -> Self {
        let topics::Attendee { member, connections } = attendee;
        let info = std::str::from_utf8(&member.info).ok().and_then(json);
        Self { user: member.user.to_string(), info, connections }
    }
}

impl From<topics::Publication> for Publication {
    fn from(publication: topics::Publication) -> Self {
        let topics::Draft { kind, data, key, publisher } = publication.draft;
        let text = match kind {
            DataKind::Json | DataKind::Text => Some(String::from_utf8_lossy(&data)),
            DataKind::Binary => None,
        };
        let as_json = text.as_deref().filter(|_| kind == DataKind::Json).and_then(json);
        let content = match (as_json, text) {
            (Some(json), _) => Content::Data(Data::Json(json)),
            (None, Some(text)) => Content::Data(Data::Text(Cow::into_owned(text))),
            (None, None) => Content::Base64(BASE64_STANDARD.encode(&data)),
        };
        let (key, user) = (key.as_deref().map(str::to_owned), publisher.as_deref().map(str::to_owned));
        Self { offset: publication.offset, key, user, content }
    }
}

/// `None` if it is none: an application may publish what it likes.
fn json(text: &str) -> Option<Box<RawValue>> {
    serde_json::from_str(text).ok()
}
