//! What the workers of a fan-out tell each other: when each publication left, where it stands, and who waits for it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::numbering::Publication;

/// Written by whoever publishes, read by all who hear.
pub(crate) struct Publications {
    /// Those of one publisher stand together, the newest in the place of the oldest.
    slots: Box<[Slot]>,
    /// A power of two.
    slots_each: usize,
    /// Publications so far, by publisher.
    counts: Box<[AtomicU64]>,
    /// Workers that have subscribers, by topic.
    hearing: Box<[AtomicU32]>,
}

#[derive(Default)]
struct Slot {
    sent_ns: AtomicU64,
    /// The publication's [`tag`], and below it how many workers have not heard all that they should.
    waiting: AtomicU64,
    /// Its offset in its topic, as whoever heard it first was told; zero until then.
    offset: AtomicU64,
}

impl Publications {
    /// Room for `publishers` of which `inflight` publications together are under way.
    pub(crate) fn new(publishers: usize, topics: usize, inflight: usize) -> Self {
        let slots_each = (SLOTS_MIN.max(4 * inflight) / publishers).max(SLOTS_EACH_MIN).next_power_of_two();
        Self {
            slots: std::iter::repeat_with(Slot::default).take(slots_each * publishers).collect(),
            slots_each,
            counts: std::iter::repeat_with(AtomicU64::default).take(publishers).collect(),
            hearing: std::iter::repeat_with(AtomicU32::default).take(topics).collect(),
        }
    }

    /// Of a run in which nothing is published.
    pub(crate) fn none() -> Self {
        Self { slots: Box::new([]), slots_each: 1, counts: Box::new([]), hearing: Box::new([]) }
    }

    /// A worker has subscribers of `topic`. All have said so before the first publication.
    pub(super) fn hears(&self, topic: u64) {
        self.hearing[topic as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// A publication leaves.
    pub(super) fn begin(&self, publication: Publication, topic: u64, sent_ns: u64) {
        let slot = &self.slots[self.index(publication)];
        let workers = u64::from(self.hearing[topic as usize].load(Ordering::Relaxed));
        slot.sent_ns.store(sent_ns, Ordering::Relaxed);
        slot.offset.store(0, Ordering::Relaxed);
        slot.waiting.store(tag(publication) | workers, Ordering::Release);
        self.counts[publication.publisher as usize].store(publication.number + 1, Ordering::Release);
    }

    /// How many publications of `publisher` there have been.
    pub(super) fn count(&self, publisher: u64) -> u64 {
        self.counts[publisher as usize].load(Ordering::Acquire)
    }

    /// When it left; `None` if it never did, or so long ago that it is forgotten.
    pub(super) fn sent_ns(&self, publication: Publication) -> Option<u64> {
        let age = self.count(publication.publisher).checked_sub(publication.number + 1)?;
        let slot = &self.slots[self.index(publication)];
        // The place may be taken by a newer one at any moment: nothing near that age is believed.
        (age < self.slots_each as u64 / 2).then(|| slot.sent_ns.load(Ordering::Relaxed))
    }

    /// Somebody was told that it stands at `offset`, which is not zero. False if somebody else was told another one.
    pub(super) fn stands_at(&self, publication: Publication, offset: u64) -> bool {
        if self.sent_ns(publication).is_none() {
            return true;
        }
        let known = &self.slots[self.index(publication)].offset;
        match known.compare_exchange(0, offset, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => true,
            Err(known) => known == offset,
        }
    }

    /// One worker has heard all that it should. True for the last of them, once.
    pub(super) fn worker_heard(&self, publication: Publication) -> bool {
        let waiting = &self.slots[self.index(publication)].waiting;
        let lower = |now: u64| (is_waiting(now, publication)).then(|| now - 1);
        waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, lower).is_ok_and(|before| before as u32 == 1)
    }

    /// Nobody shall wait for it any longer. True if somebody did.
    pub(super) fn give_up(&self, publication: Publication) -> bool {
        let waiting = &self.slots[self.index(publication)].waiting;
        let clear = |now: u64| (is_waiting(now, publication)).then(|| tag(publication));
        waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, clear).is_ok()
    }

    /// Whether some worker has not heard all of it yet.
    pub(super) fn is_waited_for(&self, publication: Publication) -> bool {
        is_waiting(self.slots[self.index(publication)].waiting.load(Ordering::Acquire), publication)
    }

    /// Where a publication stands in tables that keep the newest of each publisher.
    pub(super) fn index(&self, publication: Publication) -> usize {
        let within = publication.number as usize & (self.slots_each - 1);
        publication.publisher as usize * self.slots_each + within
    }

    /// The length of such a table.
    pub(super) fn slot_count(&self) -> usize {
        self.slots.len()
    }
}

/// Tells publications of one slot apart; never zero for the first ones, as unused slots are.
pub(super) fn tag(publication: Publication) -> u64 {
    (publication.number + 1) << 32
}

fn is_waiting(now: u64, publication: Publication) -> bool {
    now & !u64::from(u32::MAX) == tag(publication) && now as u32 > 0
}

/// Publications that are remembered, all publishers together.
const SLOTS_MIN: usize = 1 << 16;
/// Those of one publisher.
const SLOTS_EACH_MIN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Publication = Publication { publisher: 1, number: 0 };

    #[test]
    fn the_last_worker_to_hear_completes_a_publication_and_nobody_else() {
        let publications = Publications::new(2, 1, 8);
        publications.hears(0);
        publications.hears(0);
        assert_eq!(publications.sent_ns(FIRST), None, "it has not left");
        assert!(!publications.worker_heard(FIRST));
        publications.begin(FIRST, 0, 77);
        assert_eq!((publications.sent_ns(FIRST), publications.count(1), publications.count(0)), (Some(77), 1, 0));
        assert!(!publications.worker_heard(FIRST));
        assert!(publications.is_waited_for(FIRST));
        assert!(publications.worker_heard(FIRST));
        assert!(!publications.is_waited_for(FIRST));
        assert!(!publications.worker_heard(FIRST) && !publications.give_up(FIRST), "it is complete");
    }

    #[test]
    fn a_publication_stands_at_one_offset_for_everybody() {
        let publications = Publications::new(2, 1, 8);
        publications.begin(FIRST, 0, 1);
        assert!(publications.stands_at(FIRST, 5) && publications.stands_at(FIRST, 5));
        assert!(!publications.stands_at(FIRST, 6));
        let same_place = Publication { number: publications.slots_each as u64, ..FIRST };
        publications.begin(same_place, 0, 2);
        assert!(publications.stands_at(FIRST, 6), "it is forgotten");
        assert!(publications.stands_at(same_place, 7) && !publications.stands_at(same_place, 5));
    }

    #[test]
    fn what_was_given_up_or_replaced_is_not_completed() {
        let publications = Publications::new(2, 1, 8);
        publications.hears(0);
        publications.begin(FIRST, 0, 1);
        assert!(publications.give_up(FIRST));
        assert!(!publications.give_up(FIRST) && !publications.worker_heard(FIRST));
        let same_place = Publication { number: publications.slots_each as u64, ..FIRST };
        assert_eq!(publications.index(FIRST), publications.index(same_place));
        publications.begin(same_place, 0, 2);
        assert!(!publications.worker_heard(FIRST));
        assert_eq!((publications.sent_ns(FIRST), publications.sent_ns(same_place)), (None, Some(2)));
        assert!(publications.worker_heard(same_place));
    }
}
