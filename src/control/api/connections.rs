//! Connections: which there are, and what a back end wants of some of them.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::Api;
use super::body::{page_limit, parse_body};
use super::bridge::{GiveUpAt, reply};
use super::error::{ApiError, ErrorCode};
use crate::auth::UnixSeconds;
use crate::builtin::{Act, Command, ConnectionInfo, DISCONNECTED, Outcome, Who};
use crate::handler::ConnId;
use crate::protocol::close::{CloseCode, REASON_LEN_MAX};
use crate::topics::{Pattern, Topic};
use crate::wire::close;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParams {
    user: Option<String>,
    after: Option<String>,
    limit: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Connections {
    connections: Vec<Connection>,
    /// For `after`, to go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    silent_cores: Vec<usize>,
}

#[derive(Debug, Serialize)]
struct Connection {
    connection: String,
    wire: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    subscriptions: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Disconnect<'a> {
    #[serde(borrow)]
    user: Option<Cow<'a, str>>,
    #[serde(borrow)]
    connection: Option<Cow<'a, str>>,
    code: Option<u16>,
    #[serde(borrow)]
    reason: Option<Cow<'a, str>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Unsubscribe<'a> {
    #[serde(borrow)]
    user: Option<Cow<'a, str>>,
    #[serde(borrow)]
    connection: Option<Cow<'a, str>>,
    #[serde(borrow)]
    topic: Cow<'a, str>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Refresh<'a> {
    #[serde(borrow)]
    user: Option<Cow<'a, str>>,
    #[serde(borrow)]
    connection: Option<Cow<'a, str>>,
    expires_in: u64,
}

/// How many connections something was done to.
#[derive(Debug, Serialize)]
pub(super) struct Done {
    connections: usize,
    silent_cores: Vec<usize>,
}

/// `GET /connections`
pub(super) async fn list(
    State(api): State<Api>,
    params: Result<Query<ListParams>, QueryRejection>,
) -> Result<Json<Connections>, ApiError> {
    let Query(ListParams { user, after, limit }) =
        params.map_err(|rejection| ApiError::bad_field(rejection.body_text()))?;
    let limit = page_limit(limit.as_deref())?;
    let after = after.map(|after| conn_id("after", &after)).transpose()?;
    let who = user.map_or(Who::All, |user| Who::User(user.into()));
    let (first_core, mut from) = after.map_or((0, 0), |after| (after.core(), after.slot().saturating_add(1)));
    let give_up_at = api.bridge.give_up_at();
    let (mut listed, mut silent_cores) = (Vec::new(), Vec::new());
    for core in first_core..api.bridge.core_count() {
        while listed.len() < limit {
            let act = Act::List { most: limit - listed.len() };
            let Some(outcome) = command(&api, core, &who, act, from, give_up_at).await else {
                silent_cores.push(core);
                break;
            };
            listed.extend(outcome.listed);
            match outcome.next {
                Some(next) => from = next,
                None => break,
            }
        }
        from = 0;
    }
    let next = listed.last().filter(|_| listed.len() == limit).map(|last| last.id.to_string());
    let connections = listed.into_iter().map(Connection::from).collect();
    Ok(Json(Connections { connections, next, silent_cores }))
}

/// `POST /disconnect`
pub(super) async fn disconnect(State(api): State<Api>, request: Request) -> Result<Json<Done>, ApiError> {
    let body = api.bodies.text(request).await?;
    let Disconnect { user, connection, code, reason } = parse_body(&body)?;
    let who = who(user, connection)?;
    let code = code.map_or(close::DISCONNECTED, CloseCode);
    if !code.may_be_sent() {
        let what = "`code` must be one that may stand in a Close frame: 1000 to 1003, 1007 to 1014, or 3000 to 4999";
        return Err(ApiError::bad_field(what));
    }
    let reason = reason.as_deref().unwrap_or(DISCONNECTED);
    if reason.len() > REASON_LEN_MAX {
        let message = format!("`reason` has {} bytes, and a Close frame has room for {REASON_LEN_MAX}", reason.len());
        return Err(ApiError::bad_field(message));
    }
    command_all(&api, &who, &Act::Disconnect { code, reason: reason.into() }).await
}

/// `POST /unsubscribe`
pub(super) async fn unsubscribe(State(api): State<Api>, request: Request) -> Result<Json<Done>, ApiError> {
    let body = api.bodies.text(request).await?;
    let Unsubscribe { user, connection, topic } = parse_body(&body)?;
    let who = who(user, connection)?;
    let checked = if topic.contains('*') { Pattern::parse(&topic).map(drop) } else { Topic::parse(&topic).map(drop) };
    checked.map_err(ApiError::bad_topic)?;
    command_all(&api, &who, &Act::Unsubscribe { subject: topic.as_ref().into() }).await
}

/// `POST /refresh`
pub(super) async fn refresh(State(api): State<Api>, request: Request) -> Result<Json<Done>, ApiError> {
    let body = api.bodies.text(request).await?;
    let Refresh { user, connection, expires_in } = parse_body(&body)?;
    let who = who(user, connection)?;
    if expires_in > EXPIRES_IN_MAX {
        return Err(ApiError::bad_field(format!(
            "`expires_in` must be 0 to {EXPIRES_IN_MAX} seconds, not {expires_in}"
        )));
    }
    command_all(&api, &who, &Act::Refresh { expires_in: Duration::from_secs(expires_in) }).await
}

/// Has something done on all cores, or on that of the one connection.
async fn command_all(api: &Api, who: &Who, act: &Act) -> Result<Json<Done>, ApiError> {
    let cores = match who {
        Who::Connection(id) if id.core() >= api.bridge.core_count() => return Err(unknown()),
        Who::Connection(id) => id.core()..id.core() + 1,
        Who::All | Who::User(_) => 0..api.bridge.core_count(),
    };
    let give_up_at = api.bridge.give_up_at();
    let mut done = Done { connections: 0, silent_cores: Vec::new() };
    let mut found = 0;
    for core in cores {
        let mut from = Some(0);
        while let Some(slot) = from {
            let Some(outcome) = command(api, core, who, act.clone(), slot, give_up_at).await else {
                done.silent_cores.push(core);
                break;
            };
            done.connections += outcome.done;
            found += outcome.found;
            from = outcome.next;
        }
    }
    match who {
        Who::Connection(_) if found == 0 && done.silent_cores.is_empty() => Err(unknown()),
        _ => Ok(Json(done)),
    }
}

fn unknown() -> ApiError {
    ApiError::new(ErrorCode::UnknownConnection, "there is no such connection; it may have ended")
}

/// Sends one command to one core; `None` if that does not answer in time.
async fn command(api: &Api, core: usize, who: &Who, act: Act, from: u32, give_up_at: GiveUpAt) -> Option<Outcome> {
    let (answer, answered) = oneshot::channel();
    let answer = Mutex::new(Some(answer));
    let answer = move |outcome| {
        if let Some(answer) = answer.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // The request may have been given up.
            let _ = answer.send(outcome);
        }
    };
    let command = Command { who: who.clone(), act, from, answer: Box::new(answer) };
    api.bridge.cast(core, give_up_at, Arc::new(command)).await.ok()?;
    reply(answered, give_up_at).await
}

fn who(user: Option<Cow<'_, str>>, connection: Option<Cow<'_, str>>) -> Result<Who, ApiError> {
    match (user, connection) {
        (Some(user), None) => Ok(Who::User(user.as_ref().into())),
        (None, Some(connection)) => conn_id("connection", &connection).map(Who::Connection),
        (Some(_), Some(_)) => Err(ApiError::bad_field("either `user` or `connection`, not both")),
        (None, None) => Err(ApiError::bad_field("`user` or `connection` is missing")),
    }
}

fn conn_id(field: &str, text: &str) -> Result<ConnId, ApiError> {
    text.parse().map_err(|bad| ApiError::bad_field(format!("`{field}`: {bad}")))
}

impl From<ConnectionInfo> for Connection {
    fn from(info: ConnectionInfo) -> Self {
        Self {
            connection: info.id.to_string(),
            wire: info.wire,
            user: info.user,
            address: info.client.map(|client| client.to_string()),
            subscriptions: info.subscriptions,
            since: info.opened_at.map(|UnixSeconds(at)| at),
        }
    }
}

/// A hundred years.
const EXPIRES_IN_MAX: u64 = 3_155_760_000;
