//! Connections and other cores, as subscriptions see them.

use bytes::Bytes;

use super::super::super::envelope::AboutTopics;
use super::super::reach::CoreState;
use super::backlogs::Encodings;
use super::{News, Notice};
use crate::handler::{Delivery, Wire};
use crate::ids::ConnId;
use crate::protocol::MessageKind;
use crate::topics::{
    Answer, Begun, Epoch, Keep, Local, Member, Outlet, Position, PresenceChange, Publication, Refused, SlowConsumer,
    Subject, SubscriberId, Tally, Ticket, ToHome, Topic,
};

/// How a publication is told to connections: what handlers know.
pub(super) trait Encode {
    /// What connections of a wire get; `None` for nothing.
    fn encode(&mut self, wire: Wire, delivery: &Delivery<'_>) -> Option<(MessageKind, Bytes)>;

    /// Appends what goes before it in one stream.
    fn preface(&mut self, wire: Wire, to: ConnId, delivery: &Delivery<'_>, out: &mut Vec<u8>);
}

/// What [`Local`] reaches while it is called.
pub(super) struct Surroundings<'a> {
    pub(super) core: &'a mut CoreState,
    pub(super) encode: &'a mut dyn Encode,
}

impl CoreState {
    /// Calls the core's subscriptions for something that delivers nothing.
    pub(super) fn with_local<T>(&mut self, call: impl FnOnce(&mut Local, &mut Surroundings<'_>) -> T) -> T {
        self.with_local_and(&mut Nothing, call)
    }

    pub(super) fn with_local_and<T>(
        &mut self,
        encode: &mut dyn Encode,
        call: impl FnOnce(&mut Local, &mut Surroundings<'_>) -> T,
    ) -> T {
        let mut local = self.topics.local.take().expect("it is away only while it is called");
        let outcome = call(&mut local, &mut Surroundings { core: self, encode });
        self.topics.local = Some(local);
        outcome
    }

    fn ids(&self, subscribers: &[SubscriberId]) -> Vec<ConnId> {
        subscribers.iter().map(|subscriber| self.id(subscriber.0)).collect()
    }
}

/// For calls that deliver nothing.
struct Nothing;

impl Encode for Nothing {
    fn encode(&mut self, _: Wire, _: &Delivery<'_>) -> Option<(MessageKind, Bytes)> {
        None
    }

    fn preface(&mut self, _: Wire, _: ConnId, _: &Delivery<'_>, _: &mut Vec<u8>) {}
}

impl Surroundings<'_> {
    /// Tells one who comes back what it missed. Others who come back with it get the same frame.
    pub(super) fn replay(&mut self, delivery: &Delivery<'_>, to: SubscriberId) {
        let mut encodings = self.core.topics.replays.take(delivery);
        self.deliver_with(&mut encodings, delivery, &[to]);
        self.core.topics.replays.keep(delivery, encodings);
    }

    fn deliver_with(&mut self, encodings: &mut Encodings, delivery: &Delivery<'_>, to: &[SubscriberId]) -> Tally {
        let &Delivery { topic, publication, .. } = delivery;
        let keep = match self.core.topics.namespaces.of(topic).slow_consumer {
            SlowConsumer::Disconnect => Keep::Firm,
            SlowConsumer::DropOldest => Keep::Droppable,
            SlowConsumer::Latest => Keep::Latest(topic, publication.draft.key.as_ref()),
        };
        let mut tally = Tally::default();
        let mut preface = Vec::new();
        for subscriber in to {
            let Some(record) = self.core.slab.get(subscriber.0) else { continue };
            let (wire, is_stream) = (record.wire, record.connection.is_stream());
            let Some(encoded) = encodings.get(wire, || self.encode.encode(wire, delivery)) else { continue };
            preface.clear();
            if is_stream {
                self.encode.preface(wire, self.core.id(subscriber.0), delivery, &mut preface);
            }
            tally.add(self.core.queue_publication(subscriber.0, encoded, &preface, keep));
        }
        tally
    }

    fn tell(&mut self, topic: &Topic, news: News, to: &[SubscriberId]) {
        if !to.is_empty() {
            let to = self.core.ids(to);
            self.core.note(Notice::News { topic: topic.clone(), news, to });
        }
    }
}

impl Outlet for Surroundings<'_> {
    fn send(&mut self, core: usize, message: ToHome) {
        // What is lost is asked for or told again later; the carrying counts it.
        self.core.carry(core, AboutTopics::ToHome(message));
    }

    fn deliver(&mut self, topic: &Topic, epoch: Epoch, publication: &Publication, to: &[SubscriberId]) -> Tally {
        self.deliver_with(&mut Encodings::default(), &Delivery { topic, epoch, publication }, to)
    }

    fn subscribed(&mut self, to: SubscriberId, subject: &Subject, begun: &Begun<'_>) {
        let &Begun { position, recovery, publications } = begun;
        let (to, subject, publications) = (self.core.id(to.0), subject.clone(), publications.to_vec());
        self.core.note(Notice::Subscribed { to, subject, position, recovery, publications });
    }

    fn refused(&mut self, to: SubscriberId, topic: &Topic, refused: Refused) {
        let to = self.core.id(to.0);
        self.core.note(Notice::Refused { to, topic: topic.clone(), refused });
    }

    fn gap(&mut self, topic: &Topic, position: Position, to: &[SubscriberId]) {
        self.tell(topic, News::Gap(position), to);
    }

    fn presence(&mut self, topic: &Topic, change: &PresenceChange, to: &[SubscriberId]) {
        self.tell(topic, News::Presence(change.clone()), to);
    }

    fn members(&mut self, topic: &Topic, members: &[Member], to: &[SubscriberId]) {
        self.tell(topic, News::Members(members.to_vec()), to);
    }

    fn answer(&mut self, ticket: Ticket, answer: Answer) {
        if self.core.topics.questions.settle(ticket) {
            self.core.note(Notice::Answer(ticket, Ok(answer)));
        }
    }
}
