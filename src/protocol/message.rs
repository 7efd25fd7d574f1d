//! A message: what the frames of one data opcode add up to (RFC 6455 §5.4, §5.6).

use bytes::Bytes;

/// Text or binary (RFC 6455 §5.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// UTF-8, checked on the way in.
    Text,
    /// Any bytes.
    Binary,
}

/// A whole message from a peer, unmasked, reassembled, inflated and, if text, valid UTF-8.
#[derive(Debug)]
pub struct Message<'a> {
    kind: MessageKind,
    payload: Payload<'a>,
}

/// Where the bytes of a received message or request head lie.
#[derive(Debug)]
pub enum Payload<'a> {
    /// In the receive buffer: the message came whole in one frame and one read.
    Borrowed(&'a [u8]),
    /// In a buffer of its own: it came in pieces, or was inflated.
    Owned(Vec<u8>),
    /// In a buffer of its own that is used again when the message was sent on and nobody else has it: it is a large one.
    Shared(Bytes),
}

impl<'a> Message<'a> {
    /// A message whose bytes are known to keep the rules of `kind`.
    pub(crate) fn new(kind: MessageKind, payload: Payload<'a>) -> Self {
        Self { kind, payload }
    }

    /// Text or binary.
    pub fn kind(&self) -> MessageKind {
        self.kind
    }

    /// The payload.
    pub fn bytes(&self) -> &[u8] {
        self.payload.bytes()
    }

    /// The payload as text; `None` if the message is binary.
    pub fn text(&self) -> Option<&str> {
        match self.kind {
            MessageKind::Text => std::str::from_utf8(self.bytes()).ok(),
            MessageKind::Binary => None,
        }
    }

    /// The payload, wherever it lies.
    pub fn into_payload(self) -> Payload<'a> {
        self.payload
    }

    /// The payload as shared bytes: a copy if it lies in the receive buffer, free if it has a buffer of its own.
    pub fn into_bytes(self) -> Bytes {
        match self.payload {
            Payload::Borrowed(bytes) => Bytes::copy_from_slice(bytes),
            Payload::Owned(vec) => Bytes::from(vec),
            Payload::Shared(bytes) => bytes,
        }
    }
}

impl Payload<'_> {
    /// The bytes, wherever they lie.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Owned(vec) => vec,
            Self::Shared(bytes) => bytes,
        }
    }
}
