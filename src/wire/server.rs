//! What the server says.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::code::ErrorCode;
use super::fault::{Fault, Refusal};
use super::fields::Fields;
use super::position::{OFFSET_MAX, Position};
use super::write::Object;

/// A message to a client.
#[derive(Clone, Debug)]
pub enum ServerMessage<'a> {
    /// What a client asked for has been done.
    Ack(Ack<'a>),
    /// A publication.
    Message(Message<'a>),
    /// Who is there: the answer to `presence`.
    Presence(Presence<'a>),
    /// Somebody came or went.
    PresenceEvent(PresenceEvent<'a>),
    /// The server has ended a subscription.
    Unsubscribe {
        /// As in the subscription.
        topic: Cow<'a, str>,
        /// An [`ErrorCode`]'s name, or one of a later version.
        code: Cow<'a, str>,
        /// A sentence for people.
        reason: Cow<'a, str>,
    },
    /// What a client asked for has not been done.
    Error {
        /// The message that it answers, if it is known.
        id: Option<u32>,
        /// An [`ErrorCode`]'s name, or one of a later version.
        code: Cow<'a, str>,
        /// A sentence for people.
        message: Cow<'a, str>,
        /// When to try again.
        retry_ms: Option<u32>,
    },
}

/// Which fields it has depends on what it answers; `id` says which message that is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ack<'a> {
    /// Of the message that it answers.
    pub id: u32,
    /// To `connect`: what the HTTP API calls this connection.
    pub connection: Option<Cow<'a, str>>,
    /// To `connect` with a token: its user.
    pub user: Option<Cow<'a, str>>,
    /// To `connect` with a token that expires: how many seconds the connection has, unless a newer one comes.
    pub expires_in: Option<u64>,
    /// To `subscribe` with a topic: where it stands. To `publish`: where the publication stands.
    pub position: Option<Position>,
    /// To `subscribe` with `recover`: whether nothing is missing.
    pub recovered: Option<bool>,
    /// To `subscribe`: how many of the messages that follow were published before it.
    pub replay: Option<u32>,
}

impl<'a> Ack<'a> {
    /// To `unsubscribe`, `ping`, and to a subscription to a pattern.
    pub fn done(id: u32) -> Self {
        Self { id, ..Self::default() }
    }

    /// To `connect`.
    pub fn connected(id: u32, connection: &'a str, user: Option<&'a str>, expires_in: Option<u64>) -> Self {
        Self { connection: Some(connection.into()), user: user.map(Cow::from), expires_in, ..Self::done(id) }
    }

    /// To `subscribe`. `recovered` is there if and only if recovery was asked for.
    pub fn subscribed(id: u32, position: Position, recovered: Option<bool>, replay: u32) -> Self {
        Self { position: Some(position), recovered, replay: Some(replay), ..Self::done(id) }
    }

    /// To `publish`.
    pub fn published(id: u32, position: Position) -> Self {
        Self { position: Some(position), ..Self::done(id) }
    }
}

/// A publication, the same for all its subscribers: [`Message::encode`] it once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Its topic, also for those who subscribed to a pattern.
    pub topic: Cow<'a, str>,
    /// Its place in the topic's order.
    pub offset: u64,
    /// What it is the newest value of, if its publisher said so.
    pub key: Option<Cow<'a, str>>,
    /// Who published it, if a client did and its namespace tells.
    pub user: Option<Cow<'a, str>>,
    /// The content.
    pub data: Data<'a>,
}

/// What is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data<'a> {
    /// The text of a JSON value, a string with its quotation marks.
    Json(&'a str),
    /// Text, which is a JSON string on the wire.
    Text(&'a str),
}

impl Message<'_> {
    /// The text of its frame.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut Vec<u8>) {
        let mut message = Object::message(out, "message");
        message.text("topic", &self.topic);
        message.number("offset", self.offset);
        if let Some(key) = &self.key {
            message.text("key", key);
        }
        if let Some(user) = &self.user {
            message.text("user", user);
        }
        match self.data {
            Data::Json(json) => message.raw("data", json),
            Data::Text(text) => message.text("data", text),
        }
        message.end();
    }
}

/// Who is there.
#[derive(Clone, Debug)]
pub struct Presence<'a> {
    /// Of the message that it answers.
    pub id: u32,
    /// Where.
    pub topic: Cow<'a, str>,
    /// Each user once.
    pub members: Vec<Member<'a>>,
}

/// A user who is there.
#[derive(Clone, Debug)]
pub struct Member<'a> {
    /// Who.
    pub user: Cow<'a, str>,
    /// A JSON object from the token, as it stands there.
    pub info: Option<Cow<'a, str>>,
    /// With how many connections, if that is known.
    pub connections: Option<u32>,
}

/// Somebody came or went; the same for all who are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresenceEvent<'a> {
    /// Where.
    pub topic: Cow<'a, str>,
    /// True for a join, false for a leave.
    pub joined: bool,
    /// Who.
    pub user: Cow<'a, str>,
    /// A JSON object from the token, as it stands there.
    pub info: Option<Cow<'a, str>>,
}

impl PresenceEvent<'_> {
    /// The text of its frame.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut Vec<u8>) {
        let mut message = Object::message(out, "presence");
        message.text("topic", &self.topic);
        message.text("event", if self.joined { JOIN } else { LEAVE });
        write_user(&mut message, &self.user, self.info.as_deref());
        message.end();
    }
}

impl<'a> ServerMessage<'a> {
    /// An error about one of a client's messages.
    pub fn error(id: Option<u32>, code: ErrorCode, message: impl Into<Cow<'a, str>>) -> Self {
        Self::Error { id, code: code.name().into(), message: message.into(), retry_ms: None }
    }

    /// The end of a subscription that the client did not ask for.
    pub fn unsubscribed(topic: impl Into<Cow<'a, str>>, code: ErrorCode, reason: impl Into<Cow<'a, str>>) -> Self {
        Self::Unsubscribe { topic: topic.into(), code: code.name().into(), reason: reason.into() }
    }

    /// The text of its frame.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    /// Reads a text frame from a server, as a client does.
    ///
    /// # Errors
    ///
    /// A [`Refusal`], as for a client's message.
    pub fn decode(frame: &'a str) -> Result<Self, Refusal> {
        let fields = Fields::of_frame(frame)?;
        Self::of_fields(&fields).map_err(|fault| fields.refusal(fault))
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Ack(ack) => ack.write(out),
            Self::Message(message) => message.write(out),
            Self::Presence(presence) => presence.write(out),
            Self::PresenceEvent(event) => event.write(out),
            Self::Unsubscribe { topic, code, reason } => {
                let mut message = Object::message(out, "unsubscribe");
                message.text("topic", topic);
                message.text("code", code);
                message.text("reason", reason);
                message.end();
            }
            Self::Error { id, code, message: sentence, retry_ms } => {
                let mut message = Object::message(out, "error");
                if let Some(id) = *id {
                    message.number("id", id.into());
                }
                message.text("code", code);
                message.text("message", sentence);
                if let Some(retry_ms) = *retry_ms {
                    message.number("retry_ms", retry_ms.into());
                }
                message.end();
            }
        }
    }

    fn of_fields(fields: &Fields<'a>) -> Result<Self, Fault> {
        let text = |name| Fields::required(name, fields.text(name)?);
        Ok(match &*text("type")? {
            "ack" => Self::Ack(Ack::of_fields(fields)?),
            "message" => Self::Message(Message {
                topic: text("topic")?,
                offset: Fields::required("offset", fields.offset()?)?,
                key: fields.text("key")?,
                user: fields.text("user")?,
                data: Data::Json(Fields::required("data", fields.raw("data"))?.get()),
            }),
            "presence" if fields.text("event")?.is_some() => Self::PresenceEvent(PresenceEvent {
                topic: text("topic")?,
                joined: match &*text("event")? {
                    JOIN => true,
                    LEAVE => false,
                    _ => return Err(Fault::Wrong { field: "event", expected: "`join` or `leave`" }),
                },
                user: text("user")?,
                info: info(fields)?,
            }),
            "presence" => Self::Presence(Presence {
                id: Fields::required("id", fields.id()?)?,
                topic: text("topic")?,
                members: members(fields)?,
            }),
            "unsubscribe" => Self::Unsubscribe { topic: text("topic")?, code: text("code")?, reason: text("reason")? },
            "error" => Self::Error {
                id: fields.id()?,
                code: text("code")?,
                message: text("message")?,
                retry_ms: small_number(fields, "retry_ms")?,
            },
            _ => return Err(Fault::UnknownType),
        })
    }
}

impl<'a> Ack<'a> {
    fn write(&self, out: &mut Vec<u8>) {
        let mut message = Object::message(out, "ack");
        message.number("id", self.id.into());
        if let Some(connection) = &self.connection {
            message.text("connection", connection);
        }
        if let Some(user) = &self.user {
            message.text("user", user);
        }
        if let Some(expires_in) = self.expires_in {
            message.number("expires_in", expires_in.min(OFFSET_MAX));
        }
        if let Some(position) = self.position {
            message.position(position);
        }
        if let Some(recovered) = self.recovered {
            message.flag("recovered", recovered);
        }
        if let Some(replay) = self.replay {
            message.number("replay", replay.into());
        }
        message.end();
    }

    fn of_fields(fields: &Fields<'a>) -> Result<Self, Fault> {
        Ok(Self {
            id: Fields::required("id", fields.id()?)?,
            connection: fields.text("connection")?,
            user: fields.text("user")?,
            expires_in: fields.number("expires_in", OFFSET_MAX, "a whole number of seconds")?,
            position: fields.position()?,
            recovered: fields.flag("recovered")?,
            replay: small_number(fields, "replay")?,
        })
    }
}

impl Presence<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        let mut message = Object::message(out, "presence");
        message.number("id", self.id.into());
        message.text("topic", &self.topic);
        message.objects("members", &self.members, |object, member| {
            write_user(object, &member.user, member.info.as_deref());
            if let Some(connections) = member.connections {
                object.number("connections", connections.into());
            }
        });
        message.end();
    }
}

fn write_user(object: &mut Object<'_>, user: &str, info: Option<&str>) {
    object.text("user", user);
    if let Some(info) = info {
        object.raw("info", info);
    }
}

fn members<'a>(fields: &Fields<'a>) -> Result<Vec<Member<'a>>, Fault> {
    let members = Fields::required("members", fields.array("members")?)?;
    members.into_iter().map(member).collect()
}

fn member(value: &RawValue) -> Result<Member<'_>, Fault> {
    let fields = Fields::of_object("members", value)?;
    Ok(Member {
        user: Fields::required("user", fields.text("user")?)?,
        info: info(&fields)?,
        connections: small_number(&fields, "connections")?,
    })
}

fn info<'a>(fields: &Fields<'a>) -> Result<Option<Cow<'a, str>>, Fault> {
    Ok(fields.object("info")?.map(|info| info.get().into()))
}

fn small_number(fields: &Fields<'_>, name: &'static str) -> Result<Option<u32>, Fault> {
    let number = fields.number(name, u32::MAX.into(), "a whole number from 0 to 4294967295")?;
    Ok(number.map(|number| number as u32))
}

const JOIN: &str = "join";
const LEAVE: &str = "leave";
