//! The path of a publication through its home.

use super::super::message::{
    Answer, Deliver, Party, Publish, Receipt, ReceiptId, Refused, Reply, Ticket, ToCore, TopicInfo,
};
use super::super::moment::Moment;
use super::super::name::Topic;
use super::super::position::Position;
use super::idempotency::IDEMPOTENCY_KEY_BYTES_MAX;
use super::receipts::{About, Question};
use super::{Home, Outbound, to_asker};

impl Home {
    pub(super) fn publish(&mut self, from: Party, publish: Publish, now: Moment, out: &mut Outbound) {
        let (ticket, reply) = (publish.ticket, publish.reply);
        let answer = match self.accept(from, publish, now, out) {
            Ok(Some(receipt)) if reply != Reply::Nothing => Answer::Published(receipt),
            Ok(_) => return,
            Err(refused) => Answer::Refused(refused),
        };
        out.messages.push((from, ToCore::Answer { ticket, answer }));
    }

    /// Publishes. Answers the receipt, unless cores are to be waited for.
    fn accept(
        &mut self,
        from: Party,
        publish: Publish,
        now: Moment,
        out: &mut Outbound,
    ) -> Result<Option<Receipt>, Refused> {
        let Publish { topic, draft, idempotency_key, ticket, reply } = publish;
        if let Some(key) = &idempotency_key {
            if key.len() > IDEMPOTENCY_KEY_BYTES_MAX {
                return Err(Refused::KeyTooLong { bytes: key.len() });
            }
            if let Some(position) = self.idempotency.find(&topic, key, now) {
                return Ok(Some(Receipt { position, counts: None, is_repeat: true }));
            }
        }
        let namespace = self.namespaces.of(&topic);
        if !namespace.admits(draft.bytes()) {
            return Err(Refused::TooLarge { bytes: draft.bytes(), max: namespace.message_bytes_max });
        }
        let state = self.make(&topic, now).ok_or(Refused::TooManyTopics)?;
        let publication = state.publish(draft, now);
        let position = state.position();
        self.publication_count += 1;
        self.watchers.note(&topic, position.epoch, &publication);
        self.reschedule(&topic);
        if let Some(key) = &idempotency_key {
            self.idempotency.insert(&topic, key, position, now);
        }
        let audience = self.audience(&topic);
        let receipt = match reply {
            Reply::Counted => self.question(from, ticket, About::Published(position), &topic, now, out),
            Reply::Nothing | Reply::Accepted => None,
        };
        for core in audience.iter() {
            let (topic, publication) = (topic.clone(), publication.clone());
            let deliver = Deliver { topic, epoch: position.epoch, publication, receipt };
            out.messages.push((Party::Core(core), ToCore::Deliver(deliver)));
        }
        Ok(accepted(reply, position))
    }

    /// Asks all cores that hear the topic how many subscribers they have.
    pub(super) fn count(
        &mut self,
        from: Party,
        topic: Topic,
        ticket: Ticket,
        info: TopicInfo,
        now: Moment,
        out: &mut Outbound,
    ) {
        let Some(receipt) = self.question(from, ticket, About::Info(info), &topic, now, out) else { return };
        for core in self.audience(&topic).iter() {
            out.messages.push((Party::Core(core), ToCore::Count { topic: topic.clone(), receipt }));
        }
    }

    /// Opens a question to all cores that hear the topic; answers it at once if none is to be waited for.
    fn question(
        &mut self,
        asker: Party,
        ticket: Ticket,
        about: About,
        topic: &Topic,
        now: Moment,
        out: &mut Outbound,
    ) -> Option<ReceiptId> {
        let waiting = self.audience(topic);
        match self.receipts.open(Question { asker, ticket, about }, waiting, now) {
            Ok(id) => Some(id),
            Err(answered) => {
                out.messages.push(to_asker(*answered));
                None
            }
        }
    }
}

/// The receipt of a publication whose counts nobody waits for.
fn accepted(reply: Reply, position: Position) -> Option<Receipt> {
    match reply {
        Reply::Nothing | Reply::Accepted => Some(Receipt { position, counts: None, is_repeat: false }),
        // Answered by the counts.
        Reply::Counted => None,
    }
}
