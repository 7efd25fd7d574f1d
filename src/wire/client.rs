//! What clients say.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::fault::{Fault, Refusal};
use super::fields::Fields;
use super::position::Position;
use super::write::Object;

/// A message from a client. Strings are borrowed from the frame where they have no escapes.
///
/// `id` is the client's own; the answer, an ack or an error, has the same.
#[derive(Clone, Debug)]
pub enum ClientMessage<'a> {
    /// The first message; again, with a newer token of the same user, to stay.
    Connect {
        /// For the answer.
        id: u32,
        /// Where anonymous connections are allowed, it may be missing.
        token: Option<Token<'a>>,
    },
    /// To get what is published from now on, or from a position on.
    Subscribe {
        /// For the answer.
        id: u32,
        /// A topic or a pattern, not checked yet.
        topic: Cow<'a, str>,
        /// The last publication that the client has.
        recover: Option<Position>,
        /// For this topic, where its namespace wants one.
        token: Option<Token<'a>>,
        /// Whether joins and leaves are to be told.
        presence: bool,
    },
    /// To get no more of it.
    Unsubscribe {
        /// For the answer.
        id: u32,
        /// As in the subscription.
        topic: Cow<'a, str>,
    },
    /// To give something to all subscribers of a topic.
    Publish {
        /// For the answer. `None`: only an error is answered.
        id: Option<u32>,
        /// A topic, not checked yet.
        topic: Cow<'a, str>,
        /// Any JSON, as it stands in the frame.
        data: &'a RawValue,
        /// What it is the newest value of, where a slow consumer gets only the newest.
        key: Option<Cow<'a, str>>,
    },
    /// To be told who is there.
    Presence {
        /// For the answer.
        id: u32,
        /// A topic, not checked yet.
        topic: Cow<'a, str>,
    },
    /// To see whether the server is there, where the client cannot send a ping of WebSocket.
    Ping {
        /// For the answer.
        id: u32,
    },
}

/// A token as it came. It shows nothing of itself in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Token<'a>(pub Cow<'a, str>);

impl std::fmt::Debug for Token<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Token({} bytes)", self.0.len())
    }
}

impl<'a> ClientMessage<'a> {
    /// Reads a text frame. Its size is the connection's to bound; the rest is bounded here.
    ///
    /// # Errors
    ///
    /// A [`Refusal`], which can be answered; the connection stays open.
    pub fn decode(frame: &'a str) -> Result<Self, Refusal> {
        let fields = Fields::of_frame(frame)?;
        Self::of_fields(&fields).map_err(|fault| fields.refusal(fault))
    }

    /// The text of its frame.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    fn of_fields(fields: &Fields<'a>) -> Result<Self, Fault> {
        let id = || Fields::required("id", fields.id()?);
        let topic = || Fields::required("topic", fields.text("topic")?);
        let token = || Ok(fields.text("token")?.map(Token));
        Ok(match &*Fields::required("type", fields.text("type")?)? {
            "connect" => Self::Connect { id: id()?, token: token()? },
            "subscribe" => Self::Subscribe {
                id: id()?,
                topic: topic()?,
                recover: recover(fields)?,
                token: token()?,
                presence: fields.flag("presence")?.unwrap_or(false),
            },
            "unsubscribe" => Self::Unsubscribe { id: id()?, topic: topic()? },
            "publish" => Self::Publish {
                id: fields.id()?,
                topic: topic()?,
                data: Fields::required("data", fields.raw("data"))?,
                key: fields.text("key")?,
            },
            "presence" => Self::Presence { id: id()?, topic: topic()? },
            "ping" => Self::Ping { id: id()? },
            _ => return Err(Fault::UnknownType),
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        let mut message = Object::message(out, self.kind());
        if let Some(id) = self.id() {
            message.number("id", id.into());
        }
        match self {
            Self::Connect { token, .. } => write_token(&mut message, token),
            Self::Subscribe { topic, recover, token, presence, .. } => {
                message.text("topic", topic);
                if let Some(position) = *recover {
                    message.object("recover", |inner| inner.position(position));
                }
                write_token(&mut message, token);
                if *presence {
                    message.flag("presence", true);
                }
            }
            Self::Unsubscribe { topic, .. } | Self::Presence { topic, .. } => message.text("topic", topic),
            Self::Publish { topic, data, key, .. } => {
                message.text("topic", topic);
                if let Some(key) = key {
                    message.text("key", key);
                }
                message.raw("data", data.get());
            }
            Self::Ping { .. } => {}
        }
        message.end();
    }

    /// Its `type`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "connect",
            Self::Subscribe { .. } => "subscribe",
            Self::Unsubscribe { .. } => "unsubscribe",
            Self::Publish { .. } => "publish",
            Self::Presence { .. } => "presence",
            Self::Ping { .. } => "ping",
        }
    }

    /// What its answer is known by.
    pub fn id(&self) -> Option<u32> {
        match *self {
            Self::Connect { id, .. }
            | Self::Subscribe { id, .. }
            | Self::Unsubscribe { id, .. }
            | Self::Presence { id, .. }
            | Self::Ping { id } => Some(id),
            Self::Publish { id, .. } => id,
        }
    }
}

/// An object of both `epoch` and `offset`.
fn recover(fields: &Fields<'_>) -> Result<Option<Position>, Fault> {
    let Some(object) = fields.object("recover")? else { return Ok(None) };
    let position = Fields::of_object("recover", object)?.position()?;
    Fields::required("epoch", position).map(Some)
}

fn write_token(message: &mut Object<'_>, token: &Option<Token<'_>>) {
    if let Some(Token(token)) = token {
        message.text("token", token);
    }
}
