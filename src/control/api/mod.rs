//! The HTTP API for back ends, under `/api/v1`: publish, ask about topics, and command connections.
//!
//! `openapi.json` beside this file describes it, and `tests/api.rs` holds both to each other. Requests become questions
//! to cores in [`bridge`]; who may ask is in [`access`], what is read of a request in [`body`], what goes wrong in
//! [`error`].

mod access;
mod body;
mod bridge;
mod connections;
mod error;
mod publish;
mod reload;
mod topic;
mod watch;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use axum::extract::{OriginalUri, State};
use axum::http::{Method, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};

use crate::auth::ApiKeys;
use crate::server::Handle;
use crate::topics::{Namespaces, Topic, UnknownNamespace};
pub(super) use access::{PeerAddr, authorize};
use body::Bodies;
use bridge::Bridge;
pub use bridge::{Answers, AnswersInbox, answers};
pub(super) use error::{ApiError, ErrorCode};

/// What the API is made of.
pub struct ApiOptions {
    /// Reaches the cores.
    pub handle: Handle,
    /// What they answer: the other end was given to [`Builder::outside`](crate::server::Builder::outside).
    pub answers: AnswersInbox,
    /// Who may ask, and how topics behave.
    pub settings: ApiSettings,
    /// Reads the configuration again.
    pub reload: Reload,
    /// Most bytes in the body of a request.
    pub body_bytes_max: usize,
}

/// Reads the configuration again and hands it out: answers with sentences for the operator, such as what needs a
/// restart, or with what is wrong, in which case nothing has changed. It may wait for files.
pub type Reload = Arc<dyn Fn() -> Result<Vec<String>, String> + Send + Sync>;

/// What may change while the API answers. Clones are one and the same.
#[derive(Clone, Debug)]
pub struct ApiSettings(Arc<RwLock<Current>>);

#[derive(Debug)]
struct Current {
    keys: Option<Arc<ApiKeys>>,
    namespaces: Arc<Namespaces>,
}

impl ApiSettings {
    /// Without `keys` it answers this machine only.
    pub fn new(keys: Option<ApiKeys>, namespaces: Arc<Namespaces>) -> Self {
        Self(Arc::new(RwLock::new(Current { keys: keys.map(Arc::new), namespaces })))
    }

    /// From now on these keys count.
    pub fn set_keys(&self, keys: Option<ApiKeys>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).keys = keys.map(Arc::new);
    }

    /// From now on topics behave so.
    pub fn set_namespaces(&self, namespaces: Arc<Namespaces>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).namespaces = namespaces;
    }

    fn keys(&self) -> Option<Arc<ApiKeys>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).keys.clone()
    }

    fn namespaces(&self) -> Arc<Namespaces> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).namespaces.clone()
    }
}

/// What every request finds.
#[derive(Clone)]
pub(super) struct Api {
    bridge: Bridge,
    settings: ApiSettings,
    reload: Reload,
    bodies: Bodies,
}

impl Api {
    /// Must be called within the runtime that serves it.
    pub(super) fn start(options: ApiOptions) -> Self {
        Self::start_with(options, REQUEST_WAIT, BODY_WAIT)
    }

    fn start_with(options: ApiOptions, request_wait: Duration, body_wait: Duration) -> Self {
        Self {
            bridge: Bridge::start(options.handle, options.answers, request_wait),
            settings: options.settings,
            reload: options.reload,
            bodies: Bodies { bytes_max: options.body_bytes_max, wait: body_wait },
        }
    }

    /// The topic of this name, where there may be one.
    fn topic(&self, name: &str) -> Result<Topic, ApiError> {
        let topic = Topic::parse(name).map_err(ApiError::bad_topic)?;
        let is_known = self.settings.namespaces().knows_topic(&topic);
        if is_known { Ok(topic) } else { Err(ApiError::unknown_namespace(UnknownNamespace)) }
    }

    /// Who may ask now; `None`: this machine alone.
    pub(super) fn keys(&self) -> Option<Arc<ApiKeys>> {
        self.settings.keys()
    }
}

/// The routes below `/api/v1`.
pub(super) fn routes(api: Api) -> Router {
    let guarded = Router::new()
        .route("/publish", post(publish::publish))
        .route("/batch", post(publish::batch))
        .route("/broadcast", post(publish::broadcast))
        .route("/topics/{topic}", get(topic::info))
        .route("/topics/{topic}/presence", get(topic::presence))
        .route("/topics/{topic}/history", get(topic::history))
        .route("/connections", get(connections::list))
        .route("/disconnect", post(connections::disconnect))
        .route("/unsubscribe", post(connections::unsubscribe))
        .route("/refresh", post(connections::refresh))
        .route("/reload", post(reload::reload))
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .layer(axum::middleware::from_fn_with_state(api.clone(), access::check))
        .with_state(api);
    // The document tells nothing of this server, so it needs no key.
    Router::new().route("/openapi.json", get(document).fallback(wrong_method)).merge(guarded)
}

async fn document() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT)
}

async fn not_found(State(api): State<Api>, OriginalUri(uri): OriginalUri, request: axum::extract::Request) -> ApiError {
    api.bodies.drain(request.into_body()).await;
    let message = format!("there is no {}; /api/v1/openapi.json has what there is", uri.path());
    ApiError::new(ErrorCode::NotFound, message)
}

async fn wrong_method(method: Method, OriginalUri(uri): OriginalUri) -> ApiError {
    ApiError::new(
        ErrorCode::MethodNotAllowed,
        format!("{method} is not for {}; see the header field Allow", uri.path()),
    )
}

/// For all questions of one request together. More than a topic's home waits for the counts of other cores.
const REQUEST_WAIT: Duration = Duration::from_secs(5);
/// From a request's head to the end of its body.
const BODY_WAIT: Duration = Duration::from_secs(30);

const DOCUMENT: &str = include_str!("openapi.json");

#[cfg(test)]
mod tests;
