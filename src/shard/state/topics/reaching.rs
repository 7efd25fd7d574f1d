//! What a handler does with topics.

use std::sync::Arc;

use super::super::super::envelope::AboutTopics;
use super::super::reach::CoreState;
use crate::handler::{CannotSubscribe, ReachTopics, Wire};
use crate::ids::ConnId;
use crate::topics::{
    AlreadySubscribed, Draft, Local, Member, Moment, Namespaces, Pattern, Publish, Read, Refused, Reply, Subject,
    SubscriberId, Ticket, ToHome, Topic, Want, home_of,
};

use super::outlet::Surroundings;

impl CoreState {
    /// The WebSocket is over: so are its subscriptions, before its index is another's.
    pub(in super::super) fn leave_topics(&mut self, index: u32) {
        let subscriber = SubscriberId(index);
        if self.topics.local().interest().indexes_of(subscriber).next().is_some() {
            self.with_local(|local, outlet| local.remove(subscriber, outlet));
            self.count_subscriptions();
        }
        if self.has_backlogs {
            self.forget_backlog(index);
        }
    }

    pub(super) fn is_subscribed(&self, id: ConnId, subject: &str) -> bool {
        self.id(id.index) == id && self.topics.local().interest().is_subscribed(SubscriberId(id.index), subject)
    }

    fn begin(
        &mut self,
        id: ConnId,
        subscribe: impl FnOnce(&mut Local, SubscriberId, Moment, &mut Surroundings<'_>) -> Result<(), AlreadySubscribed>,
    ) -> Result<(), CannotSubscribe> {
        if !self.named(id).is_some_and(|(_, connection)| connection.is_open()) {
            return Err(CannotSubscribe::NotOpen);
        }
        let now = self.moment();
        let begun = self.with_local(|local, outlet| subscribe(local, SubscriberId(id.index), now, outlet));
        self.topics_pending = true;
        self.count_subscriptions();
        begun.map_err(|AlreadySubscribed| CannotSubscribe::Already)
    }

    fn count_subscriptions(&self) {
        self.metrics.subscriptions.set(self.topics.local().interest().subscription_count() as u64);
    }

    fn send_draft(&mut self, publish: Publish) -> Result<(), Refused> {
        let namespace = self.topics.namespaces.of(&publish.topic);
        let bytes = publish.draft.bytes();
        if !namespace.admits(bytes) {
            return Err(Refused::TooLarge { bytes, max: namespace.message_bytes_max });
        }
        self.ask_home(&publish.topic.clone(), ToHome::Publish(Box::new(publish)))
    }

    fn ask_home(&mut self, topic: &Topic, message: ToHome) -> Result<(), Refused> {
        let home = home_of(topic, self.post.core_count());
        if self.carry(home, AboutTopics::ToHome(message)) { Ok(()) } else { Err(Refused::Busy) }
    }

    /// Asks with a new ticket, which is forgotten again if nothing could be asked.
    fn ask(&mut self, ask: impl FnOnce(&mut Self, Ticket) -> Result<(), Refused>) -> Result<Ticket, Refused> {
        let now = self.moment();
        let ticket = self.topics.questions.ask(now)?;
        ask(self, ticket).inspect_err(|_| {
            self.topics.questions.settle(ticket);
        })?;
        Ok(ticket)
    }
}

impl ReachTopics for CoreState {
    fn subscribe(
        &mut self,
        id: ConnId,
        topic: &Topic,
        want: Want,
        member: Option<&Member>,
    ) -> Result<(), CannotSubscribe> {
        self.begin(id, |local, subscriber, now, outlet| local.subscribe(subscriber, topic, want, member, now, outlet))
    }

    fn subscribe_pattern(&mut self, id: ConnId, pattern: &Pattern) -> Result<(), CannotSubscribe> {
        self.begin(id, |local, subscriber, now, outlet| local.subscribe_pattern(subscriber, pattern, now, outlet))
    }

    fn unsubscribe(&mut self, id: ConnId, subject: &str) -> bool {
        if !self.is_subscribed(id, subject) {
            return false;
        }
        let was_subscribed =
            self.with_local(|local, outlet| local.unsubscribe(SubscriberId(id.index), subject, outlet));
        // The next subscription of the same name must not be told of the beginning of this one.
        self.topics.notices.retain(|notice| !notice.is_of_subscription(id, subject));
        self.count_subscriptions();
        was_subscribed
    }

    fn wire_of(&self, id: ConnId) -> Option<Wire> {
        self.slab.get(id.index).filter(|_| self.id(id.index) == id).map(|record| record.wire)
    }

    fn subscription_count(&self, id: ConnId) -> usize {
        if self.id(id.index) != id {
            return 0;
        }
        self.topics.local().interest().indexes_of(SubscriberId(id.index)).count()
    }

    fn subscriptions(&self, id: ConnId) -> Vec<Subject> {
        if self.id(id.index) != id {
            return Vec::new();
        }
        self.topics.local().interest().subjects_of(SubscriberId(id.index)).collect()
    }

    fn publish(&mut self, topic: &Topic, draft: Draft) -> Result<(), Refused> {
        // The answer to a refusal finds nobody who asked.
        let (topic, ticket) = (topic.clone(), Ticket(0));
        self.send_draft(Publish { topic, draft, idempotency_key: None, ticket, reply: Reply::Nothing })
    }

    fn publish_asking(
        &mut self,
        topic: &Topic,
        draft: Draft,
        idempotency_key: Option<Arc<str>>,
        reply: Reply,
    ) -> Result<Ticket, Refused> {
        let topic = topic.clone();
        self.ask(|core, ticket| core.send_draft(Publish { topic, draft, idempotency_key, ticket, reply }))
    }

    fn read(&mut self, topic: &Topic, what: Read) -> Result<Ticket, Refused> {
        self.ask(|core, ticket| core.ask_home(topic, ToHome::Read { topic: topic.clone(), ticket, what }))
    }

    fn namespaces(&self) -> &Arc<Namespaces> {
        &self.topics.namespaces
    }
}
