//! What goes wrong, in one shape: `{"error":{"code":"…","message":"…"}}` with a fitting status.

use std::borrow::Cow;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::topics::{NameError, Refused, UnknownNamespace};
use crate::wire::Fault;

/// Why a request, or one of several publications in it, was not done.
#[derive(Clone, Debug, Serialize)]
pub(in super::super) struct ApiError {
    error: Told,
}

#[derive(Clone, Debug, Serialize)]
struct Told {
    code: ErrorCode,
    message: Cow<'static, str>,
}

/// For programs; the sentence beside it is for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(in super::super) enum ErrorCode {
    /// The body is not JSON, or breaks a bound of JSON that goes to clients.
    BadJson,
    /// A field or parameter is missing, unknown, or not what it must be.
    BadField,
    /// No topic or pattern can have this name.
    BadTopic,
    /// The topic's namespace is not configured, and other topics are refused.
    UnknownNamespace,
    /// The API wants a key, or there is none and the request is not from this machine.
    KeyRequired,
    /// The key is not one of this server's.
    KeyInvalid,
    /// No such path.
    NotFound,
    /// The connection is gone, or never was.
    UnknownConnection,
    /// The path is right and the method is not.
    MethodNotAllowed,
    /// The body did not come in time.
    RequestTimeout,
    /// The namespace keeps no presence.
    PresenceDisabled,
    /// The publication is larger than its namespace allows.
    DataTooBig,
    /// The server's configuration is no good; the old one stays.
    BadConfiguration,
    /// The body is larger than this server takes.
    BodyTooBig,
    /// The body is not announced as JSON.
    UnsupportedMediaType,
    /// It cannot be done now; nothing was done.
    Unavailable,
    /// A core did not answer in time: what it has done is not known.
    Timeout,
    /// The server failed.
    Internal,
}

impl ErrorCode {
    /// All of them.
    #[cfg(test)]
    pub(super) const ALL: [Self; 18] = [
        Self::BadJson,
        Self::BadField,
        Self::BadTopic,
        Self::UnknownNamespace,
        Self::KeyRequired,
        Self::KeyInvalid,
        Self::NotFound,
        Self::UnknownConnection,
        Self::MethodNotAllowed,
        Self::RequestTimeout,
        Self::PresenceDisabled,
        Self::DataTooBig,
        Self::BadConfiguration,
        Self::BodyTooBig,
        Self::UnsupportedMediaType,
        Self::Unavailable,
        Self::Timeout,
        Self::Internal,
    ];

    fn status(self) -> StatusCode {
        match self {
            Self::BadJson | Self::BadField | Self::BadTopic | Self::UnknownNamespace => StatusCode::BAD_REQUEST,
            Self::KeyRequired | Self::KeyInvalid => StatusCode::UNAUTHORIZED,
            Self::NotFound | Self::UnknownConnection => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::PresenceDisabled => StatusCode::CONFLICT,
            Self::BadConfiguration => StatusCode::UNPROCESSABLE_ENTITY,
            Self::DataTooBig | Self::BodyTooBig => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl ApiError {
    pub(in super::super) fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { error: Told { code, message: message.into() } }
    }

    #[cfg(test)]
    pub(super) fn code(&self) -> ErrorCode {
        self.error.code
    }

    pub(in super::super) fn bad_field(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::BadField, message)
    }

    pub(in super::super) fn bad_topic(error: NameError) -> Self {
        Self::new(ErrorCode::BadTopic, error.to_string())
    }

    pub(super) fn unknown_namespace(error: UnknownNamespace) -> Self {
        Self::new(ErrorCode::UnknownNamespace, error.to_string())
    }

    /// An answer to another question than was asked.
    pub(super) fn confused() -> Self {
        Self::new(ErrorCode::Internal, "a core has answered another question; please report this")
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        let code = match refused {
            Refused::TooLarge { .. } => ErrorCode::DataTooBig,
            Refused::KeyTooLong { .. } => ErrorCode::BadField,
            Refused::TooManyTopics | Refused::Busy => ErrorCode::Unavailable,
        };
        Self::new(code, refused.to_string())
    }
}

impl From<Fault> for ApiError {
    fn from(fault: Fault) -> Self {
        Self::new(ErrorCode::BadJson, fault.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let code = self.error.code;
        let mut response = (code.status(), Json(self)).into_response();
        let headers = response.headers_mut();
        match code {
            // RFC 9110 §11.6.1: a 401 names a scheme.
            ErrorCode::KeyRequired | ErrorCode::KeyInvalid => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"corewire\""));
            }
            ErrorCode::Unavailable => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}
