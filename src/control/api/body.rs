//! What is read of a request: a JSON object of bounded size and depth, announced as such.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Deserialize;

use super::error::{ApiError, ErrorCode};
use crate::wire;

/// How bodies are read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bodies {
    /// Most bytes in one.
    pub(super) bytes_max: usize,
    /// From a request's head to the end of its body.
    pub(super) wait: Duration,
}

impl Bodies {
    /// The text of a request's body, which need not be JSON yet.
    pub(super) async fn text(self, request: Request) -> Result<String, ApiError> {
        let (head, mut body) = request.into_parts();
        if !is_json(&head.headers) {
            self.drain(body).await;
            let message = "the body must be JSON, announced as Content-Type: application/json";
            return Err(ApiError::new(ErrorCode::UnsupportedMediaType, message));
        }
        if announced_len(&head.headers).is_some_and(|len| len > self.bytes_max as u64) {
            self.drain(body).await;
            return Err(self.too_big());
        }
        let limited = Limited::new(&mut body, self.bytes_max);
        let bytes = match tokio::time::timeout(self.wait, limited.collect()).await {
            Ok(Ok(collected)) => collected.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                self.drain(body).await;
                return Err(self.too_big());
            }
            Ok(Err(_)) => return Err(ApiError::new(ErrorCode::BadJson, "the body broke off")),
            Err(_) => {
                let message = format!("the body did not come within {:?}", self.wait);
                return Err(ApiError::new(ErrorCode::RequestTimeout, message));
            }
        };
        String::from_utf8(bytes.into()).map_err(|_| ApiError::new(ErrorCode::BadJson, "the body is not UTF-8"))
    }

    /// Reads on for a little and forgets it: a connection that is closed with something unread in it may be reset, and
    /// then the client would never see why its request was refused.
    pub(super) async fn drain(self, mut body: Body) {
        let mut left = DRAIN_BYTES_MAX;
        let drained = async {
            while let Some(Ok(frame)) = body.frame().await {
                left = left.saturating_sub(frame.data_ref().map_or(0, |data| data.len()));
                if left == 0 {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(DRAIN_WAIT, drained).await;
    }

    fn too_big(self) -> ApiError {
        let message = format!(
            "the body has more than the {} bytes that a message may have (--max-message-bytes)",
            self.bytes_max
        );
        ApiError::new(ErrorCode::BodyTooBig, message)
    }
}

/// Reads the text of a JSON object, all of it.
pub(super) fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, ApiError> {
    // serde would take the array of a type's fields for the type.
    if !text.trim_start().starts_with('{') {
        let what = match serde_json::from_str::<&serde_json::value::RawValue>(text) {
            Ok(_) => "a JSON object is expected here".to_owned(),
            Err(error) => format!("not JSON: {error}"),
        };
        return Err(ApiError::new(ErrorCode::BadJson, what));
    }
    serde_json::from_str(text).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => ApiError::bad_field(error.to_string()),
        _ => ApiError::new(ErrorCode::BadJson, format!("not JSON: {error}")),
    })
}

/// As [`parse`], for a whole body: what goes on to clients must keep the bounds that their own messages have.
pub(super) fn parse_body<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, ApiError> {
    wire::check_bounds(text)?;
    parse(text)
}

/// What the parameter `limit` says: how many things an answer may have.
pub(super) fn page_limit(text: Option<&str>) -> Result<usize, ApiError> {
    let Some(text) = text else { return Ok(PAGE_LIMIT_DEFAULT) };
    let limit = text.parse().ok().filter(|limit| (1..=PAGE_LIMIT_MAX).contains(limit));
    limit.ok_or_else(|| ApiError::bad_field(format!("`limit` must be a whole number from 1 to {PAGE_LIMIT_MAX}")))
}

fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = content_type.map(|value| value.split(';').next().unwrap_or_default().trim());
    media_type.is_some_and(|media_type| media_type.eq_ignore_ascii_case("application/json"))
}

fn announced_len(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

const PAGE_LIMIT_DEFAULT: usize = 100;
const PAGE_LIMIT_MAX: usize = 1000;
const DRAIN_WAIT: Duration = Duration::from_secs(2);
const DRAIN_BYTES_MAX: usize = 64 << 20;
