//! Another configuration, by a request.

use axum::Json;
use axum::extract::{Request, State};
use serde::Serialize;

use super::Api;
use super::error::{ApiError, ErrorCode};

/// What became of it.
#[derive(Debug, Serialize)]
pub(super) struct Reloaded {
    /// Sentences for the operator, such as what needs a restart.
    notes: Vec<String>,
}

/// `POST /reload`; the body does not count.
pub(super) async fn reload(State(api): State<Api>, request: Request) -> Result<Json<Reloaded>, ApiError> {
    api.bodies.drain(request.into_body()).await;
    let reload = api.reload.clone();
    // It waits for files.
    match tokio::task::spawn_blocking(move || reload()).await {
        Ok(Ok(notes)) => Ok(Json(Reloaded { notes })),
        Ok(Err(what)) => Err(ApiError::new(ErrorCode::BadConfiguration, what)),
        Err(_) => Err(ApiError::new(ErrorCode::Internal, "the reload has panicked; please report this")),
    }
}
