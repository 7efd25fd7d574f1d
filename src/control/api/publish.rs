//! Publishing: one, several, or the same to many topics. A publication is answered when its topic has accepted it.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Api;
use super::body::{parse, parse_body};
use super::bridge::{Asked, GiveUpAt};
use super::error::ApiError;
use crate::topics::{Answer, DataKind, Draft, IDEMPOTENCY_KEY_BYTES_MAX, Receipt, Reply, Topic};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Publication<'a> {
    #[serde(borrow)]
    topic: Cow<'a, str>,
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(borrow)]
    key: Option<Cow<'a, str>>,
    #[serde(borrow)]
    idempotency_key: Option<Cow<'a, str>>,
    wait: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch<'a> {
    /// Each is read alone, so that a bad one harms no other.
    #[serde(borrow)]
    publications: Vec<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Broadcast<'a> {
    #[serde(borrow)]
    topics: Vec<Cow<'a, str>>,
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(borrow)]
    key: Option<Cow<'a, str>>,
    #[serde(borrow)]
    idempotency_key: Option<Cow<'a, str>>,
    wait: Option<bool>,
}

/// Where a publication stands, and what became of it if that was waited for.
#[derive(Debug, Serialize)]
pub(super) struct Published {
    epoch: String,
    offset: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    repeated: bool,
    #[serde(flatten)]
    counts: Option<Counts>,
}

#[derive(Debug, Serialize)]
struct Counts {
    subscribers: u64,
    delivered: u64,
    conflated: u64,
    dropped: u64,
    silent_cores: Vec<usize>,
}

#[derive(Debug, Serialize)]
pub(super) struct Outcomes {
    results: Vec<Outcome>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Outcome {
    Done(Published),
    Failed(ApiError),
}

/// A publication that can be asked for.
struct Ready {
    topic: Topic,
    draft: Draft,
    idempotency_key: Option<Arc<str>>,
    reply: Reply,
}

/// `POST /publish`
pub(super) async fn publish(State(api): State<Api>, request: Request) -> Result<Json<Published>, ApiError> {
    let give_up_at = api.bridge.give_up_at();
    let body = api.bodies.text(request).await?;
    let ready = parse_body::<Publication<'_>>(&body)?.ready(&api)?;
    finish(begin(&api, ready, give_up_at).await?).await.map(Json)
}

/// `POST /batch`
pub(super) async fn batch(State(api): State<Api>, request: Request) -> Result<Json<Outcomes>, ApiError> {
    let give_up_at = api.bridge.give_up_at();
    let body = api.bodies.text(request).await?;
    let Batch { publications } = parse_body(&body)?;
    check_count("publications", publications.len())?;
    let each = publications.into_iter().map(|one| parse::<Publication<'_>>(one.get())?.ready(&api));
    Ok(Json(publish_all(&api, each, give_up_at).await))
}

/// `POST /broadcast`
pub(super) async fn broadcast(State(api): State<Api>, request: Request) -> Result<Json<Outcomes>, ApiError> {
    let give_up_at = api.bridge.give_up_at();
    let body = api.bodies.text(request).await?;
    let Broadcast { topics, data, key, idempotency_key, wait } = parse_body(&body)?;
    check_count("topics", topics.len())?;
    let (key, idempotency_key) = (key.as_deref(), idempotency_key.as_deref());
    let each = topics.iter().map(|topic| ready(&api, topic, data, key, idempotency_key, wait));
    Ok(Json(publish_all(&api, each, give_up_at).await))
}

/// Asks for them in their order, which is the order of those for one topic, with some under way at a time.
async fn publish_all(api: &Api, each: impl Iterator<Item = Result<Ready, ApiError>>, give_up_at: GiveUpAt) -> Outcomes {
    let mut results = Vec::new();
    let mut under_way = VecDeque::new();
    for ready in each {
        if under_way.len() == UNDER_WAY_MAX {
            results.extend(finish_next(&mut under_way).await);
        }
        under_way.push_back(match ready {
            Ok(ready) => begin(api, ready, give_up_at).await,
            Err(error) => Err(error),
        });
    }
    while let Some(outcome) = finish_next(&mut under_way).await {
        results.push(outcome);
    }
    Outcomes { results }
}

async fn finish_next(under_way: &mut VecDeque<Result<Asked, ApiError>>) -> Option<Outcome> {
    let published = match under_way.pop_front()? {
        Ok(asked) => finish(asked).await,
        Err(error) => Err(error),
    };
    Some(published.map_or_else(Outcome::Failed, Outcome::Done))
}

async fn begin(api: &Api, ready: Ready, give_up_at: GiveUpAt) -> Result<Asked, ApiError> {
    let Ready { topic, draft, idempotency_key, reply } = ready;
    let send = |handle: &crate::server::Handle, ticket| {
        handle.publish_asking(&topic, draft.clone(), idempotency_key.clone(), reply, ticket)
    };
    api.bridge.ask(&topic, give_up_at, send).await
}

async fn finish(asked: Asked) -> Result<Published, ApiError> {
    match asked.answer().await? {
        Answer::Published(receipt) => Ok(receipt.into()),
        Answer::Refused(refused) => Err(refused.into()),
        _ => Err(ApiError::confused()),
    }
}

impl Publication<'_> {
    fn ready(&self, api: &Api) -> Result<Ready, ApiError> {
        ready(api, &self.topic, self.data, self.key.as_deref(), self.idempotency_key.as_deref(), self.wait)
    }
}

fn ready(
    api: &Api,
    topic: &str,
    data: &RawValue,
    key: Option<&str>,
    idempotency_key: Option<&str>,
    wait: Option<bool>,
) -> Result<Ready, ApiError> {
    let topic = api.topic(topic)?;
    if let Some(key) = idempotency_key
        && !(1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len())
    {
        let message = format!("`idempotency_key` must have 1 to {IDEMPOTENCY_KEY_BYTES_MAX} bytes, not {}", key.len());
        return Err(ApiError::bad_field(message));
    }
    Ok(Ready {
        topic,
        draft: Draft {
            kind: DataKind::Json,
            data: Bytes::copy_from_slice(data.get().as_bytes()),
            key: key.map(Arc::from),
            publisher: None,
        },
        idempotency_key: idempotency_key.map(Arc::from),
        reply: if wait == Some(true) { Reply::Counted } else { Reply::Accepted },
    })
}

fn check_count(field: &str, count: usize) -> Result<(), ApiError> {
    if (1..=BATCH_MAX).contains(&count) {
        return Ok(());
    }
    Err(ApiError::bad_field(format!("`{field}` must have 1 to {BATCH_MAX} elements, not {count}")))
}

impl From<Receipt> for Published {
    fn from(receipt: Receipt) -> Self {
        let Receipt { position, counts, is_repeat } = receipt;
        let counts = counts.map(|counts| Counts {
            subscribers: counts.tally.subscribers,
            delivered: counts.tally.delivered,
            conflated: counts.tally.conflated,
            dropped: counts.tally.dropped,
            silent_cores: counts.silent,
        });
        Self { epoch: position.epoch.to_string(), offset: position.offset, repeated: is_repeat, counts }
    }
}

/// Most publications in one request.
const BATCH_MAX: usize = 1000;
/// Publications of one request that wait for their answers at a time: less than a core's mailbox has room for.
const UNDER_WAY_MAX: usize = 64;
