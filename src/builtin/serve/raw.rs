//! Clients that can only open a URL: bare data in both directions.

use std::borrow::Cow;

use bytes::Bytes;

use super::access::{self, User};
use super::budget::Budget;
use super::command::Arrival;
use super::seats::Seat;
use super::url::Admitted;
use super::watch::Watch;
use crate::auth::UnixSeconds;
use crate::handler::{CannotSubscribe, Conn, ConnId, Core, Delivery, Unanswered};
use crate::protocol::MessageKind;
use crate::protocol::close::CloseCode;
use crate::rate::Rate;
use crate::topics::{Answer, DataKind, Draft, Refused, Reply, Subject, Ticket};
use crate::wire::{Data, bare, close};

/// What is remembered of a client, if there is anything.
#[derive(Debug, Default)]
pub(super) struct Client {
    /// What it wants to subscribe to, until it is open.
    subjects: Box<[Subject]>,
    user: Option<User>,
    valid_until: Option<UnixSeconds>,
    /// Where the connections from an address are limited.
    seat: Option<Box<Seat>>,
    budget: Budget,
    /// Forgotten where there was nothing else to remember at first.
    arrival: Option<Arrival>,
}

impl Client {
    pub(super) fn new(arrival: Arrival, admitted: Admitted, seat: Option<Box<Seat>>) -> Self {
        let Admitted { subjects, user, valid_until } = admitted;
        Self { subjects, user, valid_until, seat, budget: Budget::default(), arrival: Some(arrival) }
    }

    /// The WebSocket is open.
    pub(super) fn open(&mut self, conn: &mut Conn<'_>) {
        for subject in std::mem::take(&mut self.subjects) {
            let subscribed = match &subject {
                Subject::Topic(topic) => {
                    let namespace = conn.namespaces().of(topic).clone();
                    let member = self.user.as_ref().filter(|_| namespace.presence).map(|user| &user.member);
                    conn.subscribe(topic, access::newcomers(&namespace), member)
                }
                Subject::Pattern(pattern) => conn.subscribe_pattern(pattern),
            };
            debug_assert_ne!(subscribed, Err(CannotSubscribe::Already), "each stands there once");
        }
    }

    /// Whether it is like all others once it is open, so that nothing need be kept.
    pub(super) fn is_forgettable(&self) -> bool {
        self.subjects.is_empty() && self.user.is_none() && self.valid_until.is_none() && self.seat.is_none()
    }

    /// Where it came from, and when.
    pub(super) fn arrival(&self) -> Option<Arrival> {
        self.arrival
    }

    pub(super) fn user(&self) -> Option<&User> {
        self.user.as_ref()
    }

    /// A back end says until when it may stay. Answers whether it has a token at all.
    pub(super) fn expire_at(&mut self, at: UnixSeconds) -> bool {
        if self.user.is_some() || self.valid_until.is_some() {
            self.valid_until = Some(at);
        }
        self.valid_until.is_some()
    }

    /// When its token expires.
    pub(super) fn valid_until(&self) -> Option<UnixSeconds> {
        self.valid_until
    }
}

/// What the client says is published in its one topic, as a string. Answers what its home's answer is known by: there is
/// no message to acknowledge with, but a refusal must be told.
pub(super) fn publish(
    conn: &mut Conn<'_>,
    watch: &mut Watch,
    client: &mut Option<Box<Client>>,
    rate: Option<Rate>,
    text: &str,
) -> Option<Ticket> {
    let asked = try_publish(conn, watch, client, rate, text);
    asked.inspect_err(|(code, reason)| conn.close(*code, reason)).ok()
}

fn try_publish(
    conn: &mut Conn<'_>,
    watch: &mut Watch,
    client: &mut Option<Box<Client>>,
    rate: Option<Rate>,
    text: &str,
) -> Result<Ticket, (CloseCode, Cow<'static, str>)> {
    let [Subject::Topic(topic)] = &conn.subscriptions()[..] else {
        return Err((CloseCode::POLICY, "publishing needs exactly one topic".into()));
    };
    let namespace = conn.namespaces().of(topic);
    access::may_publish(namespace, topic, client.as_deref().and_then(Client::user))
        .map_err(|failure| (CloseCode::POLICY, failure.message))?;
    if rate.is_some() || namespace.publish_rate.is_some() {
        let budget = &mut client.get_or_insert_default().budget;
        let now = conn.now();
        if budget.message(rate, now).and_then(|()| budget.publication(namespace, now)).is_err() {
            return Err((close::ABUSE, close::reason(close::ABUSE).into()));
        }
    }
    let publisher = access::publisher(namespace, client.as_deref().and_then(Client::user));
    let draft = Draft { kind: DataKind::Text, data: Bytes::copy_from_slice(text.as_bytes()), key: None, publisher };
    if !watch.wants_publications() {
        return conn.publish_asking(topic, draft, None, Reply::Accepted).map_err(refusal_of);
    }
    let ticket = conn.publish_asking(topic, draft.clone(), None, Reply::Accepted).map_err(refusal_of)?;
    watch.publishing(ticket, conn.id(), topic, draft);
    Ok(ticket)
}

/// The home has answered, or never will.
pub(super) fn published(core: &mut Core<'_>, to: ConnId, answer: Result<Answer, Unanswered>) {
    let (code, reason) = match answer {
        Ok(Answer::Refused(refused)) => refusal_of(refused),
        Ok(_) => return,
        Err(Unanswered) => (CloseCode::TRY_AGAIN_LATER, "the topic did not answer".into()),
    };
    core.close_conn(to, code, &reason);
}

/// Something that the client should have heard is lost, and no message could say so.
pub(super) fn end_for_loss(core: &mut Core<'_>, id: ConnId) {
    core.close_conn(id, CloseCode::TRY_AGAIN_LATER, "something was lost on the way");
}

/// There is no other way to tell that something was lost.
fn refusal_of(refused: Refused) -> (CloseCode, Cow<'static, str>) {
    match refused {
        Refused::TooLarge { .. } => (CloseCode::TOO_BIG, "larger than the topic allows".into()),
        Refused::TooManyTopics | Refused::KeyTooLong { .. } | Refused::Busy => {
            (CloseCode::TRY_AGAIN_LATER, "the topic cannot be reached now".into())
        }
    }
}

/// A string as it is, anything else as JSON, bytes as bytes.
pub(super) fn encode(delivery: &Delivery<'_>) -> (MessageKind, Bytes) {
    let draft = &delivery.publication.draft;
    if draft.kind == DataKind::Json
        && let Ok(json) = std::str::from_utf8(&draft.data)
        && let Cow::Owned(text) = bare(Data::Json(json))
    {
        return (MessageKind::Text, text.into());
    }
    delivery.bare()
}
