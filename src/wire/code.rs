//! What an error message is about.

use super::close;
use crate::protocol::CloseCode;

/// The `code` of an error. Clients decide by it; the sentence beside it is for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The frame is not a JSON object as is wanted: syntax, depth, a member twice.
    BadJson,
    /// No message of a client has this `type`.
    UnknownType,
    /// A field is missing, or is not what it must be.
    BadField,
    /// Something else came before `connect`.
    NotConnected,
    /// Nobody may do this without a token.
    TokenRequired,
    /// The token is malformed, signed by nobody we know, or for something else.
    TokenInvalid,
    /// The token has expired: the same with a newer one may succeed.
    TokenExpired,
    /// No topic or pattern can have this name.
    BadTopic,
    /// The topic's namespace is not configured.
    UnknownNamespace,
    /// The namespace or the token does not allow it.
    Forbidden,
    /// The connection has this subscription.
    AlreadySubscribed,
    /// The connection has no such subscription.
    NotSubscribed,
    /// The connection has as many subscriptions as it may.
    TooManySubscriptions,
    /// Recovery was asked for where there is none: for a pattern.
    NotRecoverable,
    /// The namespace keeps no presence.
    PresenceDisabled,
    /// `data` is larger than the namespace allows.
    DataTooBig,
    /// Too many messages; there is a `retry_ms`.
    RateLimited,
    /// The topic's home cannot take it now: nothing was done.
    Unavailable,
    /// The topic's home did not answer in time: whether it was done is not known.
    Unanswered,
    /// The fault is the server's.
    Internal,
}

impl ErrorCode {
    /// All of them.
    pub const ALL: [Self; 20] = [
        Self::BadJson,
        Self::UnknownType,
        Self::BadField,
        Self::NotConnected,
        Self::TokenRequired,
        Self::TokenInvalid,
        Self::TokenExpired,
        Self::BadTopic,
        Self::UnknownNamespace,
        Self::Forbidden,
        Self::AlreadySubscribed,
        Self::NotSubscribed,
        Self::TooManySubscriptions,
        Self::NotRecoverable,
        Self::PresenceDisabled,
        Self::DataTooBig,
        Self::RateLimited,
        Self::Unavailable,
        Self::Unanswered,
        Self::Internal,
    ];

    /// As it stands on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::BadJson => "bad_json",
            Self::UnknownType => "unknown_type",
            Self::BadField => "bad_field",
            Self::NotConnected => "not_connected",
            Self::TokenRequired => "token_required",
            Self::TokenInvalid => "token_invalid",
            Self::TokenExpired => "token_expired",
            Self::BadTopic => "bad_topic",
            Self::UnknownNamespace => "unknown_namespace",
            Self::Forbidden => "forbidden",
            Self::AlreadySubscribed => "already_subscribed",
            Self::NotSubscribed => "not_subscribed",
            Self::TooManySubscriptions => "too_many_subscriptions",
            Self::NotRecoverable => "not_recoverable",
            Self::PresenceDisabled => "presence_disabled",
            Self::DataTooBig => "data_too_big",
            Self::RateLimited => "rate_limited",
            Self::Unavailable => "unavailable",
            Self::Unanswered => "unanswered",
            Self::Internal => "internal",
        }
    }

    /// `None` if there is no such code in this version.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.name() == name)
    }

    /// Whether the same message may succeed later.
    pub fn is_temporary(self) -> bool {
        matches!(self, Self::RateLimited | Self::Unavailable | Self::Unanswered | Self::Internal)
    }

    /// The close code that follows when this is the answer to a connection's first `connect`. Everywhere else an error
    /// leaves the connection open.
    pub fn ends_connect(self) -> Option<CloseCode> {
        match self {
            Self::TokenRequired | Self::TokenInvalid => Some(close::TOKEN_REFUSED),
            Self::TokenExpired => Some(close::TOKEN_EXPIRED),
            Self::Forbidden => Some(close::DISCONNECTED),
            _ => None,
        }
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
