//! What a peer can do wrong, and what the wire sees of it.

use super::CloseCode;

/// What the peer did wrong. Always ends the connection, with [`close_code`](Self::close_code).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Violation {
    /// A client's frame without a masking key.
    #[error("a client must mask its frames (RFC 6455 §5.1)")]
    UnmaskedFrame,
    /// A server's frame with a masking key.
    #[error("a server must not mask its frames (RFC 6455 §5.1)")]
    MaskedFrame,
    /// RSV1, RSV2 or RSV3 without an extension that gives it a meaning there.
    #[error("a reserved bit is set that no extension uses there (RFC 6455 §5.2, RFC 7692 §6)")]
    ReservedBits,
    /// An opcode that nobody has defined.
    #[error("the opcode is reserved (RFC 6455 §5.2)")]
    ReservedOpcode,
    /// Close, Ping or Pong without FIN.
    #[error("a control frame must not be fragmented (RFC 6455 §5.5)")]
    FragmentedControl,
    /// Close, Ping or Pong with more than 125 bytes.
    #[error("a control frame must not have more than 125 bytes (RFC 6455 §5.5)")]
    ControlTooLong,
    /// A payload length in more bytes than it needs.
    #[error("the payload length must use the fewest bytes that hold it (RFC 6455 §5.2)")]
    NonMinimalLength,
    /// A payload length of 2^63 or more.
    #[error("the highest bit of the payload length must be zero (RFC 6455 §5.2)")]
    LengthTooLarge,
    /// A continuation frame while no message is open.
    #[error("a continuation frame has no message to continue (RFC 6455 §5.4)")]
    UnexpectedContinuation,
    /// A Text or Binary frame while a message is open.
    #[error("a new message must not begin inside a fragmented one (RFC 6455 §5.4)")]
    InterleavedMessage,
    /// More fragments than the limit.
    #[error("the message has more fragments than this server accepts (RFC 6455 §10.4)")]
    TooManyFragments,
    /// A text message that is not UTF-8.
    #[error("a text message must be UTF-8 (RFC 6455 §8.1)")]
    InvalidUtf8,
    /// A frame whose payload is larger than the limit.
    #[error("the frame is larger than this server accepts (RFC 6455 §10.4)")]
    FrameTooBig,
    /// A message that is larger than the limit.
    #[error("the message is larger than this server accepts (RFC 6455 §10.4)")]
    MessageTooBig,
    /// A Close payload of one byte.
    #[error("a close payload must be empty or begin with a two-byte code (RFC 6455 §5.5.1)")]
    ClosePayloadTooShort,
    /// A close code that must not stand in a frame.
    #[error("the close code must not be sent (RFC 6455 §7.4)")]
    CloseCodeInvalid,
    /// A close reason that is not UTF-8.
    #[error("a close reason must be UTF-8 (RFC 6455 §5.5.1)")]
    CloseReasonNotUtf8,
    /// A compressed message that does not inflate.
    #[error("the compressed message is not a valid DEFLATE stream (RFC 7692 §7.2.2)")]
    DeflateCorrupt,
}

impl Violation {
    /// The code of the Close frame that answers it.
    pub const fn close_code(self) -> CloseCode {
        match self {
            Self::UnmaskedFrame
            | Self::MaskedFrame
            | Self::ReservedBits
            | Self::ReservedOpcode
            | Self::FragmentedControl
            | Self::ControlTooLong
            | Self::NonMinimalLength
            | Self::LengthTooLarge
            | Self::UnexpectedContinuation
            | Self::InterleavedMessage
            | Self::ClosePayloadTooShort
            | Self::CloseCodeInvalid => CloseCode::PROTOCOL_ERROR,
            Self::InvalidUtf8 | Self::CloseReasonNotUtf8 | Self::DeflateCorrupt => CloseCode::INVALID_PAYLOAD,
            Self::TooManyFragments => CloseCode::POLICY,
            Self::FrameTooBig | Self::MessageTooBig => CloseCode::TOO_BIG,
        }
    }
}
