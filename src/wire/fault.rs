//! Why a frame is not a message.

use thiserror::Error;

use super::code::ErrorCode;
use super::scan::{DEPTH_MAX, NUMBER_BYTES_MAX};
use super::server::ServerMessage;

/// What is wrong with a frame. The sentences quote nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// The text breaks the grammar (RFC 8259).
    #[error("not JSON at line {line}, column {column}")]
    NotJson {
        /// Counted from one.
        line: usize,
        /// Counted from one, in bytes.
        column: usize,
    },
    /// JSON, of another kind.
    #[error("a message is a JSON object")]
    NotAnObject,
    /// Nested deeper than [`DEPTH_MAX`].
    #[error("nested deeper than {DEPTH_MAX} levels")]
    TooDeep,
    /// A number longer than [`NUMBER_BYTES_MAX`].
    #[error("a number of more than {NUMBER_BYTES_MAX} bytes")]
    NumberTooLong,
    /// An escape of half a character.
    #[error("a string with half a surrogate pair")]
    LoneSurrogate,
    /// A field stands twice: readers would differ about which one counts.
    #[error("the field `{field}` stands twice")]
    Repeated {
        /// Its name.
        field: &'static str,
    },
    /// No such message, from this side.
    #[error("no message has this `type`")]
    UnknownType,
    /// A field that must be there is not.
    #[error("the field `{field}` is missing")]
    Missing {
        /// Its name.
        field: &'static str,
    },
    /// A field is not what it must be.
    #[error("the field `{field}` must be {expected}")]
    Wrong {
        /// Its name.
        field: &'static str,
        /// What would be right.
        expected: &'static str,
    },
}

impl Fault {
    /// What it is called on the wire.
    pub fn code(self) -> ErrorCode {
        match self {
            Self::NotJson { .. }
            | Self::NotAnObject
            | Self::TooDeep
            | Self::NumberTooLong
            | Self::LoneSurrogate
            | Self::Repeated { .. } => ErrorCode::BadJson,
            Self::UnknownType => ErrorCode::UnknownType,
            Self::Missing { .. } | Self::Wrong { .. } => ErrorCode::BadField,
        }
    }
}

/// A frame that was refused, and whom to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The message's `id`, if so much could be read.
    pub id: Option<u32>,
    /// What is wrong.
    pub fault: Fault,
}

impl Refusal {
    /// The answer to the client.
    pub fn to_message(self) -> ServerMessage<'static> {
        ServerMessage::Error {
            id: self.id,
            code: self.fault.code().name().into(),
            message: self.fault.to_string().into(),
            retry_ms: None,
        }
    }
}
