//! How publications leave, and what topics say of them.

use corewire::protocol::MessageKind;
use corewire::wire::Position;

use super::super::numbering::Publication;
use super::{Topics, epoch_changed, topic_name};
use crate::link::Desk;

impl Topics {
    /// Which of this worker's publishers it is, if it is one.
    pub(super) fn own_publisher(&self, publisher: u64) -> Option<usize> {
        let worker_count = self.place.worker_count as u64;
        (publisher % worker_count == self.place.worker_index as u64).then_some((publisher / worker_count) as usize)
    }

    pub(super) fn publish(&mut self, publication: Publication, own: usize, intended_ns: u64, desk: &mut Desk) {
        if self.http.is_none() && !desk.is_open(own) {
            return;
        }
        let topic = self.numbering.topic(publication);
        let (origin, sequence) = self.numbering.stamp(publication);
        // Read anew for each: in a burst, the last leaves later than the first.
        let sent_ns = desk.clock.now_ns();
        self.common.publications.begin(publication, topic, sent_ns);
        self.common.accepted.ask();
        let mut data = Vec::with_capacity(self.plan.len);
        self.common.pattern.write(origin, sequence, self.plan.len, &mut data);
        // Letters and digits: they stand in JSON as they are.
        let data = String::from_utf8_lossy(&data);
        let name = topic_name(topic);
        match &self.http {
            Some(http) => http.publish(own, topic, format!(r#"{{"topic":"{name}","data":"{data}"}}"#)),
            None => {
                let id = publication.number + 1;
                let text = format!(r#"{{"type":"publish","id":{id},"topic":"{name}","data":"{data}"}}"#);
                desk.send(own, MessageKind::Text, text.len(), |out| out.extend_from_slice(text.as_bytes()));
                self.speakers[own].asked.insert(publication.number);
            }
        }
        desk.tally.sent(intended_ns, sent_ns);
    }

    /// A topic has said what became of a publication.
    pub(super) fn published(&mut self, own: usize, id: u32, position: Option<Position>, desk: &mut Desk) {
        let number = u64::from(id).wrapping_sub(1);
        if !self.speakers[own].asked.remove(&number) {
            return desk.tally.error("unknown_ack", || format!("the server answered {id}, which nobody had asked"));
        }
        let Some(position) = position else {
            self.common.accepted.refuse(1);
            return desk.tally.error("no_position", || "a publication was accepted without a position".to_owned());
        };
        let publisher = (own * self.place.worker_count + self.place.worker_index) as u64;
        let publication = Publication { publisher, number };
        if !self.common.accepted.accept(self.numbering.topic(publication), position) {
            epoch_changed(desk);
        }
        if !self.common.publications.stands_at(publication, position.offset) {
            desk.tally.counts.out_of_order += 1;
        }
    }
}
