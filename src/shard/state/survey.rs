//! What memory the connections of a core hold, by cause, for the metrics.
//!
//! Counting at every change would cost every message something, and each record the bytes to remember what was
//! counted. Walking all records when somebody asks would stall a core that has a million. So they are walked a
//! slice at a time, one slice per tick, and again only if anything has happened since: a core at rest is left in
//! peace. What comes and goes while the walk is under way may be missed or counted twice, once.

use std::time::Duration;

use super::super::slab::Slab;
use crate::connection::{Memory, Tick};

/// A walk over all records, and the rest until the next.
pub(super) struct Survey {
    walk: Option<Walk>,
    /// When the last walk began.
    begun_at: Tick,
    /// Whether anything happened since.
    changed: bool,
}

/// How far a walk has come.
#[derive(Default)]
struct Walk {
    next_index: u32,
    next_at: Tick,
    memory: Memory,
}

impl Survey {
    pub(super) fn new(now: Tick) -> Self {
        Self { walk: None, begun_at: now, changed: false }
    }

    /// Something happened to some connection.
    pub(super) fn note_change(&mut self) {
        self.changed = true;
    }

    /// When [`Survey::step_if_due`] is worth calling; `None`: nothing has changed since the last walk.
    pub(super) fn next_at(&self) -> Option<Tick> {
        match &self.walk {
            Some(walk) => Some(walk.next_at),
            None => self.changed.then(|| self.begun_at.after(WALK_INTERVAL)),
        }
    }

    /// Walks one slice. Answers the sums of all records once the last slice is done.
    pub(super) fn step_if_due(&mut self, slab: &Slab, now: Tick) -> Option<Memory> {
        if self.next_at().is_none_or(|at| now < at) {
            return None;
        }
        let walk = self.walk.get_or_insert_with(|| {
            self.begun_at = now;
            self.changed = false;
            Walk::default()
        });
        walk.slice(slab);
        if walk.next_index < slab.end() {
            walk.next_at = Tick(now.0 + 1);
            return None;
        }
        self.walk.take().map(|walk| walk.memory)
    }
}

impl Walk {
    fn slice(&mut self, slab: &Slab) {
        let end = slab.end().min(self.next_index.saturating_add(RECORDS_PER_SLICE));
        let mut boxes_left = BOXES_PER_SLICE;
        while self.next_index < end && boxes_left > 0 {
            if let Some(record) = slab.get(self.next_index)
                && record.connection.has_boxes()
            {
                self.memory += record.connection.memory();
                boxes_left -= 1;
            }
            self.next_index += 1;
        }
    }
}

/// From the beginning of one walk to that of the next: a scraper comes by every 10 to 60 s.
const WALK_INTERVAL: Duration = Duration::from_secs(5);
/// Records that lie side by side are read at the pace of memory: a few tens of microseconds for so many.
const RECORDS_PER_SLICE: u32 = 4096;
/// A box lies anywhere: each costs some cache misses. A core of TLS connections is walked this slowly.
const BOXES_PER_SLICE: u32 = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::{Body, Connection, Limits, Workspace};
    use crate::protocol::{MessageKind, Role};

    fn slab(plain: usize, queueing: usize) -> Slab {
        let mut workspace = Workspace::new(Limits::default(), 1);
        let mut slab = Slab::default();
        for _ in 0..plain {
            slab.insert(Connection::established(Role::Server, None, &mut workspace, Tick(0)));
        }
        for _ in 0..queueing {
            let mut connection = Connection::established(Role::Server, None, &mut workspace, Tick(0));
            connection.send(MessageKind::Text, Body::Borrowed(&[b'x'; 500]), &mut workspace).expect("room");
            slab.insert(connection);
        }
        slab
    }

    /// Steps at every tick until the walk is done: when that was, and what it found.
    fn walk(survey: &mut Survey, slab: &Slab, from: Tick) -> (Tick, Memory) {
        (from.0..).find_map(|tick| Some((Tick(tick), survey.step_if_due(slab, Tick(tick))?))).expect("it ends")
    }

    #[test]
    fn a_walk_finds_every_box_in_slices_of_bounded_length() {
        let slab = slab(10_000, 1000);
        let mut survey = Survey::new(Tick(0));
        assert_eq!(survey.next_at(), None, "nothing has happened");
        survey.note_change();
        let begin = survey.next_at().expect("a walk is due");
        let (end, memory) = walk(&mut survey, &slab, Tick(0));
        let one = slab.get(10_999).expect("it is there").connection.memory();
        assert!(one.queue >= 500 && one.total() == one.queue);
        assert_eq!(memory, Memory { queue: 1000 * one.queue, ..Memory::default() });
        // 4096, 4096, the rest of the plain ones with the first boxes, and the other boxes.
        assert_eq!(end.0 - begin.0 + 1, 3 + 3);
    }

    #[test]
    fn it_rests_until_something_changes_and_never_begins_early() {
        let slab = slab(10, 1);
        let mut survey = Survey::new(Tick(0));
        survey.note_change();
        let (first, _) = walk(&mut survey, &slab, Tick(0));
        assert_eq!(first, Tick(0).after(WALK_INTERVAL));
        assert_eq!(survey.next_at(), None);
        assert_eq!(survey.step_if_due(&slab, Tick(100_000)), None);
        survey.note_change();
        let (second, memory) = walk(&mut survey, &slab, first);
        assert_eq!(second, first.after(WALK_INTERVAL));
        assert!(memory.queue > 0);
    }

    #[test]
    fn a_change_during_a_walk_leads_to_another() {
        let slab = slab(5000, 0);
        let mut survey = Survey::new(Tick(0));
        survey.note_change();
        let begin = survey.next_at().expect("a walk is due");
        assert_eq!(survey.step_if_due(&slab, begin), None, "more than one slice");
        survey.note_change();
        let (end, memory) = walk(&mut survey, &slab, begin);
        assert_eq!((end, memory), (Tick(begin.0 + 1), Memory::default()));
        assert_eq!(survey.next_at(), Some(begin.after(WALK_INTERVAL)));
    }
}
