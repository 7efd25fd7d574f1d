//! What the workers of a run know together of topics: where each stands.

use std::sync::atomic::{AtomicU64, Ordering};

use corewire::wire::{Epoch, Position};

/// Written by whoever hears where a topic stands, read by all.
pub(crate) struct Accepted {
    topics: Box<[Standing]>,
    /// Publications that a topic was asked to accept.
    asked: AtomicU64,
    /// Those of them that were accepted or refused.
    answered: AtomicU64,
}

#[derive(Default)]
struct Standing {
    /// Zero until somebody has been told.
    epoch: AtomicU64,
    /// The newest publication.
    offset: AtomicU64,
}

impl Accepted {
    /// Nobody knows anything of so many topics.
    pub(crate) fn new(topics: usize) -> Self {
        let topics = std::iter::repeat_with(Standing::default).take(topics).collect();
        Self { topics, asked: AtomicU64::new(0), answered: AtomicU64::new(0) }
    }

    /// A publication leaves.
    pub(super) fn ask(&self) {
        self.asked.fetch_add(1, Ordering::AcqRel);
    }

    /// A publication has been accepted, at `position`. False if the topic's epoch was another.
    pub(super) fn accept(&self, topic: u64, position: Position) -> bool {
        let is_same = self.hear(topic, position);
        self.answered.fetch_add(1, Ordering::AcqRel);
        is_same
    }

    /// Publications were refused, or their answers will not come.
    pub(super) fn refuse(&self, count: u64) {
        self.answered.fetch_add(count, Ordering::AcqRel);
    }

    /// The topic stands at `position`, or stood there. False if its epoch was another.
    pub(super) fn hear(&self, topic: u64, Position { epoch: Epoch(epoch), offset }: Position) -> bool {
        let standing = &self.topics[topic as usize];
        standing.offset.fetch_max(offset, Ordering::AcqRel);
        match standing.epoch.compare_exchange(0, epoch, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => true,
            Err(known) => known == epoch,
        }
    }

    /// The newest publication of a topic that anybody knows of.
    pub(super) fn newest(&self, topic: u64) -> Position {
        let Standing { epoch, offset } = &self.topics[topic as usize];
        Position { epoch: Epoch(epoch.load(Ordering::Acquire)), offset: offset.load(Ordering::Acquire) }
    }

    /// Whether no publication waits for its answer.
    pub(super) fn is_settled(&self) -> bool {
        self.unanswered() == 0
    }

    /// Publications that wait for their answers.
    pub(super) fn unanswered(&self) -> u64 {
        // In this order: who asks meanwhile is not settled.
        let answered = self.answered.load(Ordering::Acquire);
        self.asked.load(Ordering::Acquire).saturating_sub(answered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(epoch: u64, offset: u64) -> Position {
        Position { epoch: Epoch(epoch), offset }
    }

    #[test]
    fn the_newest_counts_and_an_epoch_is_one_for_all() {
        let accepted = Accepted::new(2);
        assert!(accepted.hear(1, at(7, 3)) && accepted.hear(1, at(7, 2)));
        assert_eq!((accepted.newest(1), accepted.newest(0)), (at(7, 3), at(0, 0)));
        accepted.ask();
        assert!(!accepted.is_settled());
        assert!(accepted.accept(1, at(7, 4)) && accepted.is_settled());
        assert!(!accepted.hear(1, at(8, 1)));
        accepted.ask();
        accepted.refuse(1);
        assert!(accepted.is_settled());
    }
}
