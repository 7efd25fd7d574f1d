//! What many are told who come back to a topic at once: each publication is encoded for the first of them.

use std::collections::HashMap;

use super::backlogs::Encodings;
use crate::handler::Delivery;
use crate::topics::{Epoch, Topic};

/// Encoded publications of the topic that was last come back to, until everybody who waits has been told.
#[derive(Default)]
pub(super) struct Replays {
    of: Option<(Topic, Epoch)>,
    by_offset: HashMap<u64, Encodings>,
    /// Of payload.
    bytes: usize,
}

impl Replays {
    /// What is there of a publication. To be kept again when it has been used.
    pub(super) fn take(&mut self, delivery: &Delivery<'_>) -> Encodings {
        let is_other =
            self.of.as_ref().is_none_or(|(topic, epoch)| (topic, *epoch) != (delivery.topic, delivery.epoch));
        if is_other {
            self.forget();
            self.of = Some((delivery.topic.clone(), delivery.epoch));
        }
        let encodings = self.by_offset.remove(&delivery.publication.offset).unwrap_or_default();
        self.bytes -= encodings.bytes();
        encodings
    }

    pub(super) fn keep(&mut self, delivery: &Delivery<'_>, encodings: Encodings) {
        let bytes = encodings.bytes();
        if self.bytes + bytes <= BYTES_MAX {
            self.bytes += bytes;
            self.by_offset.insert(delivery.publication.offset, encodings);
        }
    }

    /// Nobody waits any more.
    pub(super) fn forget(&mut self) {
        if self.of.is_some() {
            *self = Self::default();
        }
    }
}

/// On one core, and not for longer than a turn.
const BYTES_MAX: usize = 4 << 20;

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use bytes::Bytes;

    use super::*;
    use crate::handler::Wire;
    use crate::protocol::MessageKind;
    use crate::topics::{DataKind, Draft, Publication};

    fn publication(offset: u64) -> Publication {
        Publication { offset, draft: Draft { kind: DataKind::Text, data: Bytes::new(), key: None, publisher: None } }
    }

    /// Tells one more who has come back everything from the first to the third publication of a topic.
    fn tell(replays: &mut Replays, topic: &str, wire: Wire, len: usize, encoded: &Cell<u32>) {
        let topic = Topic::parse(topic).expect("a good name");
        for publication in (1..=3).map(publication) {
            let delivery = Delivery { topic: &topic, epoch: Epoch::new(1), publication: &publication };
            let mut encodings = replays.take(&delivery);
            let told = encodings.get(wire, || {
                encoded.set(encoded.get() + 1);
                Some((MessageKind::Text, vec![0; len].into()))
            });
            assert!(told.is_some());
            replays.keep(&delivery, encodings);
        }
    }

    #[test]
    fn what_many_have_missed_is_encoded_once_for_each_wire() {
        let (mut replays, encoded) = (Replays::default(), Cell::new(0));
        for _ in 0..100 {
            tell(&mut replays, "a", Wire(0), 10, &encoded);
            tell(&mut replays, "a", Wire(1), 10, &encoded);
        }
        assert_eq!((encoded.get(), replays.bytes), (6, 60));
        tell(&mut replays, "b", Wire(0), 10, &encoded);
        assert_eq!((encoded.get(), replays.bytes), (9, 30), "of the topic before nothing is left");
        replays.forget();
        assert_eq!((replays.bytes, replays.by_offset.len()), (0, 0));
    }

    #[test]
    fn no_more_is_kept_than_there_is_room_for() {
        let (mut replays, encoded) = (Replays::default(), Cell::new(0));
        for _ in 0..2 {
            tell(&mut replays, "a", Wire(0), BYTES_MAX / 2, &encoded);
        }
        assert_eq!((encoded.get(), replays.bytes), (4, BYTES_MAX));
    }
}
