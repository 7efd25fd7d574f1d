//! Topics, as an application reaches them: subscribe, publish, and ask about the past and the present.
//!
//! Topics span all cores: it does not matter on which core somebody subscribes or publishes, and all subscribers of a
//! topic hear the same publications in the same order. How topics behave is configured by
//! [`Builder::namespaces`](crate::server::Builder::namespaces); who may subscribe or publish, the handler decides.
//!
//! ```
//! use corewire::handler::Conn;
//! use corewire::topics::{DataKind, Draft, Topic, Want};
//!
//! # fn example(conn: &mut Conn<'_>) -> Result<(), Box<dyn std::error::Error>> {
//! let topic = Topic::parse("chat:lobby")?;
//! conn.subscribe(&topic, Want::Last, None)?;
//! conn.publish(&topic, Draft { kind: DataKind::Text, data: "hello".into(), key: None, publisher: None })?;
//! # Ok(())
//! # }
//! ```

use std::sync::Arc;

use bytes::Bytes;

use super::{Conn, Core};
use crate::ids::ConnId;
use crate::protocol::MessageKind;
use crate::topics::{
    DataKind, Draft, Epoch, Member, Namespaces, Pattern, Position, PresenceChange, Publication, Read, Refused, Reply,
    Subject, Ticket, Topic, Want,
};

/// What a connection speaks, by a number of the handler's choice: connections of one wire are sent the same bytes for
/// a publication. See [`Accept::wire`](super::Accept::wire) and [`Handler::encode`](super::Handler::encode).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Wire(pub u8);

/// A publication on its way to connections.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    /// Of which topic.
    pub topic: &'a Topic,
    /// In which life of it.
    pub epoch: Epoch,
    /// Offset, content and key.
    pub publication: &'a Publication,
}

/// Something else than a publication.
#[derive(Clone, Copy, Debug)]
pub enum TopicNews<'a> {
    /// Publications were lost that cannot be recovered: everything after what was sent last, up to this position.
    Gap(Position),
    /// A member has come or gone.
    Presence(&'a PresenceChange),
    /// News of members was lost: these are all of them now.
    Members(&'a [Member]),
}

/// Why a connection cannot subscribe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CannotSubscribe {
    /// It has this subscription.
    #[error("the connection has this subscription already")]
    Already,
    /// It is not open yet, or not any more.
    #[error("the connection is not open")]
    NotOpen,
}

/// The topic's home gave no answer in time. A publication may have been accepted all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the topic's core gave no answer in time")]
pub struct Unanswered;

impl Delivery<'_> {
    /// Its content and nothing else: bytes as a binary message, text and JSON as they stand as a text message.
    pub fn bare(&self) -> (MessageKind, Bytes) {
        let Draft { kind, data, .. } = &self.publication.draft;
        let kind = match kind {
            DataKind::Json | DataKind::Text => MessageKind::Text,
            DataKind::Binary => MessageKind::Binary,
        };
        (kind, data.clone())
    }
}

impl Conn<'_> {
    /// Subscribes to a topic. [`Handler::subscribed`](super::Handler::subscribed) is told, soon and not within this
    /// call, when it has begun; it ends with the connection, or by [`Conn::unsubscribe`].
    ///
    /// `want` is what is to be sent of the past. With `member`, where the namespace knows presence, somebody is
    /// present as long as the subscription lasts.
    ///
    /// # Errors
    ///
    /// If there is nothing to subscribe for; see [`CannotSubscribe`].
    pub fn subscribe(&mut self, topic: &Topic, want: Want, member: Option<&Member>) -> Result<(), CannotSubscribe> {
        let id = self.id;
        self.core.reach.subscribe(id, topic, want, member)
    }

    /// Subscribes to all topics of this form, within the pattern's namespace. Nothing of the past is sent.
    ///
    /// # Errors
    ///
    /// As [`Conn::subscribe`].
    pub fn subscribe_pattern(&mut self, pattern: &Pattern) -> Result<(), CannotSubscribe> {
        let id = self.id;
        self.core.reach.subscribe_pattern(id, pattern)
    }

    /// Ends the subscription to this topic or pattern, whether it has begun or not: nothing more of it is queued.
    /// Answers whether there was one.
    pub fn unsubscribe(&mut self, subject: &str) -> bool {
        let id = self.id;
        self.core.reach.unsubscribe(id, subject)
    }

    /// How many subscriptions the connection has.
    pub fn subscription_count(&self) -> usize {
        self.core.reach.subscription_count(self.id)
    }

    /// Everything that the connection has subscribed to, in no particular order.
    pub fn subscriptions(&self) -> Vec<Subject> {
        self.core.reach.subscriptions(self.id)
    }
}

impl Core<'_> {
    /// Publishes, and asks for no answer. What was published by one core is ordered as it was published.
    ///
    /// # Errors
    ///
    /// If it is too large for its namespace, or the way to the topic's core is full. The topic's core may still refuse
    /// it, for want of room for another topic or on the way to other cores; that is counted.
    pub fn publish(&mut self, topic: &Topic, draft: Draft) -> Result<(), Refused> {
        self.reach.publish(topic, draft)
    }

    /// Publishes, and has the answer given to [`Handler::answered`](super::Handler::answered) with this ticket, also
    /// if it is asked for [`Reply::Nothing`] and the publication is refused by the topic's core.
    ///
    /// The same `idempotency_key` within some minutes is the same publication, and published once.
    ///
    /// # Errors
    ///
    /// As [`Core::publish`], or if too many answers are waited for.
    pub fn publish_asking(
        &mut self,
        topic: &Topic,
        draft: Draft,
        idempotency_key: Option<Arc<str>>,
        reply: Reply,
    ) -> Result<Ticket, Refused> {
        self.reach.publish_asking(topic, draft, idempotency_key, reply)
    }

    /// Asks about a topic: its history, its members or its figures. The answer is given to
    /// [`Handler::answered`](super::Handler::answered) with this ticket.
    ///
    /// # Errors
    ///
    /// [`Refused::Busy`] if the way to the topic's core is full or too many answers are waited for.
    pub fn read(&mut self, topic: &Topic, what: Read) -> Result<Ticket, Refused> {
        self.reach.read(topic, what)
    }

    /// Ends a subscription of any connection of this core. Answers whether there was one.
    pub fn unsubscribe_conn(&mut self, id: ConnId, subject: &str) -> bool {
        self.reach.unsubscribe(id, subject)
    }

    /// As [`Conn::subscribe_pattern`], for any connection of this core.
    ///
    /// # Errors
    ///
    /// As [`Conn::subscribe`].
    pub fn subscribe_conn_to_pattern(&mut self, id: ConnId, pattern: &Pattern) -> Result<(), CannotSubscribe> {
        self.reach.subscribe_pattern(id, pattern)
    }

    /// What a connection of this core speaks; `None` if it is gone.
    pub fn wire_of(&self, id: ConnId) -> Option<Wire> {
        self.reach.wire_of(id)
    }

    /// How topics are configured.
    pub fn namespaces(&self) -> &Arc<Namespaces> {
        self.reach.namespaces()
    }
}

/// The part of [`Reach`](super::Reach) that is about topics.
pub(crate) trait ReachTopics {
    fn subscribe(
        &mut self,
        id: ConnId,
        topic: &Topic,
        want: Want,
        member: Option<&Member>,
    ) -> Result<(), CannotSubscribe>;
    fn subscribe_pattern(&mut self, id: ConnId, pattern: &Pattern) -> Result<(), CannotSubscribe>;
    fn unsubscribe(&mut self, id: ConnId, subject: &str) -> bool;
    fn wire_of(&self, id: ConnId) -> Option<Wire>;
    fn subscription_count(&self, id: ConnId) -> usize;
    fn subscriptions(&self, id: ConnId) -> Vec<Subject>;
    fn publish(&mut self, topic: &Topic, draft: Draft) -> Result<(), Refused>;
    fn publish_asking(
        &mut self,
        topic: &Topic,
        draft: Draft,
        idempotency_key: Option<Arc<str>>,
        reply: Reply,
    ) -> Result<Ticket, Refused>;
    fn read(&mut self, topic: &Topic, what: Read) -> Result<Ticket, Refused>;
    fn namespaces(&self) -> &Arc<Namespaces>;
}
