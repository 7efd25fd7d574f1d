//! What topics say, in the words of `corewire.v1`.

use std::borrow::Cow;

use bytes::Bytes;

use super::access::Failure;
use super::raw;
use crate::handler::{Body, ConnId, Core, Delivery, Unanswered};
use crate::protocol::MessageKind;
use crate::topics::{self, Answer, DataKind, Draft, PresenceChange, Refused, Topic};
use crate::wire::{self, Ack, Data, ErrorCode, Presence, PresenceEvent, ServerMessage};

/// A question to a topic's home, and whom to tell the answer.
#[derive(Debug)]
pub(super) enum Asked {
    /// Whether it was published; without an id only a refusal is told.
    Publish { to: ConnId, id: Option<u32> },
    /// Whether a raw client's message was published.
    Raw { to: ConnId },
    /// Who is there.
    Presence { to: ConnId, id: u32, topic: Topic },
}

impl Asked {
    /// The answer is there, or will never come.
    pub(super) fn tell(self, core: &mut Core<'_>, answer: Result<Answer, Unanswered>) {
        let (to, id) = match &self {
            Self::Raw { to } => return raw::published(core, *to, answer),
            Self::Publish { to, id } => (*to, *id),
            Self::Presence { to, id, .. } => (*to, Some(*id)),
        };
        let message = match (answer, &self) {
            (Ok(Answer::Published(receipt)), _) => match id {
                Some(id) => ServerMessage::Ack(Ack::published(id, to_wire(receipt.position))),
                None => return,
            },
            (Ok(Answer::Members(members)), Self::Presence { id, topic, .. }) => {
                let members = members.into_iter().map(member).collect();
                ServerMessage::Presence(Presence { id: *id, topic: topic.as_str().into(), members })
            }
            (Ok(Answer::Refused(refused)), _) => refusal(refused).answer(id),
            (Ok(_), _) => ServerMessage::error(id, ErrorCode::Internal, "an answer to another question"),
            (Err(unanswered), _) => ServerMessage::error(id, ErrorCode::Unanswered, unanswered.to_string()),
        };
        // It may be gone, or closing.
        let _ = core.send_to(to, MessageKind::Text, Body::Shared(message.encode().into()));
    }
}

/// A publication as all its subscribers get it. Bytes have no form in JSON.
pub(super) fn encode(delivery: &Delivery<'_>) -> Option<(MessageKind, Bytes)> {
    let Draft { kind, data, key, publisher } = &delivery.publication.draft;
    let text = std::str::from_utf8(data).ok()?;
    let data = match kind {
        DataKind::Json => Data::Json(text),
        DataKind::Text => Data::Text(text),
        DataKind::Binary => return None,
    };
    let (topic, key) = (delivery.topic.as_str().into(), key.as_deref().map(Cow::from));
    let user = publisher.as_deref().map(Cow::from);
    let message = wire::Message { topic, offset: delivery.publication.offset, key, user, data };
    Some((MessageKind::Text, message.encode().into()))
}

pub(super) fn refusal(refused: Refused) -> Failure {
    let code = match refused {
        Refused::TooLarge { .. } => ErrorCode::DataTooBig,
        Refused::TooManyTopics | Refused::KeyTooLong { .. } | Refused::Busy => ErrorCode::Unavailable,
    };
    Failure::new(code, refused.to_string())
}

pub(super) fn presence_event<'a>(topic: &'a Topic, change: &'a PresenceChange) -> PresenceEvent<'a> {
    let (joined, user, info) = match change {
        PresenceChange::Joined(member) => (true, &member.user, info(&member.info)),
        PresenceChange::Left(user) => (false, user, None),
    };
    PresenceEvent { topic: topic.as_str().into(), joined, user: (&**user).into(), info }
}

/// As clients know it.
pub(super) fn to_wire(position: topics::Position) -> wire::Position {
    wire::Position { epoch: wire::Epoch(position.epoch.number()), offset: position.offset }
}

/// What a client means.
pub(super) fn from_wire(position: wire::Position) -> topics::Position {
    topics::Position { epoch: topics::Epoch::new(position.epoch.0), offset: position.offset }
}

fn member(attendee: topics::Attendee) -> wire::Member<'static> {
    let topics::Attendee { member, connections } = attendee;
    wire::Member {
        user: member.user.to_string().into(),
        info: info(&member.info).map(Cow::into_owned).map(Cow::from),
        connections: Some(connections),
    }
}

fn info(info: &Bytes) -> Option<Cow<'_, str>> {
    std::str::from_utf8(info).ok().filter(|info| !info.is_empty()).map(Cow::from)
}
