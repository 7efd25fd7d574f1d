//! What waits for one connection that reads too slowly.
//!
//! A connection has a queue of bytes, of which the first may be written in part already. What is in there stays there,
//! so a frame is never torn. While that queue is long enough, what comes later waits here instead, as whole frames
//! that can still be replaced or dropped, and follows when there is room.
//!
//! What is taken out comes in the order in which it was put in. So a publication that replaces an older one waits at
//! the end and not in the other's place, where it would overtake others of its topic. A value that changes faster than
//! the connection reads would never come to the front that way: therefore what waits when the first of a round is
//! taken out is *sealed*, and comes before anything newer. At most two values of a key wait, one of them sealed.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use super::message::Tally;
use super::name::Topic;

/// Whole frames in order, bounded in bytes. `T` is a frame, or whatever becomes one.
#[derive(Debug)]
pub struct Backlog<T> {
    /// What may not be dropped. Sorted by number.
    firm: VecDeque<(u64, Frame<T>)>,
    /// What may be dropped, by number.
    soft: BTreeMap<u64, Soft<T>>,
    /// The number of the newest of each key, unless that is sealed or gone.
    newest: HashMap<Key, u64>,
    /// What comes next. Numbers are the order in which things came.
    next: u64,
    /// What has a smaller number is not replaced.
    sealed_below: u64,
    firm_bytes: usize,
    soft_bytes: usize,
    bytes_max: usize,
    lost: Lost,
}

/// What may become of a frame that waits.
#[derive(Clone, Copy, Debug)]
pub enum Keep<'a> {
    /// It is sent or the connection ends. For whatever is not a publication, too.
    Firm,
    /// It may be dropped to make room for others.
    Droppable,
    /// The same, and the next one of this topic and key replaces it.
    Latest(&'a Topic, Option<&'a Arc<str>>),
}

/// There is no room, and nothing may be dropped: the connection is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the peer reads too slowly")]
pub struct Overflow;

/// What was lost since the backlog was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Replaced by a newer one.
    pub conflated: u64,
    /// Dropped for want of room.
    pub dropped: u64,
}

type Key = (Topic, Option<Arc<str>>);

#[derive(Debug)]
struct Frame<T> {
    bytes: usize,
    frame: T,
}

#[derive(Debug)]
struct Soft<T> {
    frame: Frame<T>,
    key: Option<Key>,
}

/// What waiting costs beyond the frame itself: so many tiny ones are bounded as well.
pub const WAITING_BYTES: usize = 64;

impl<T> Backlog<T> {
    /// An empty one for so many bytes, [`WAITING_BYTES`] for each frame included.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            firm: VecDeque::new(),
            soft: BTreeMap::new(),
            newest: HashMap::new(),
            next: 0,
            sealed_below: 0,
            firm_bytes: 0,
            soft_bytes: 0,
            bytes_max,
            lost: Lost::default(),
        }
    }

    /// Has a frame of `len` bytes wait. Room is made by dropping the oldest that may be dropped; if that is not enough
    /// and it may be dropped itself, it is.
    ///
    /// Answers what became of it and of others for it, for one subscriber.
    ///
    /// # Errors
    ///
    /// If there is no room for a firm one.
    pub fn push(&mut self, frame: T, len: usize, keep: Keep<'_>) -> Result<Tally, Overflow> {
        let bytes = len + WAITING_BYTES;
        let before = self.lost;
        let fits = self.firm_bytes + bytes <= self.bytes_max;
        match keep {
            Keep::Firm if !fits => return Err(Overflow),
            Keep::Droppable | Keep::Latest(..) if !fits => self.lost.dropped += 1,
            Keep::Firm => {
                self.make_room(bytes);
                self.firm_bytes += bytes;
                self.firm.push_back((self.next, Frame { bytes, frame }));
            }
            Keep::Droppable => self.push_soft(Soft { frame: Frame { bytes, frame }, key: None }),
            Keep::Latest(topic, key) => {
                let key = (topic.clone(), key.cloned());
                self.conflate(&key);
                self.newest.insert(key.clone(), self.next);
                self.push_soft(Soft { frame: Frame { bytes, frame }, key: Some(key) });
            }
        }
        self.next += 1;
        Ok(Tally {
            subscribers: 1,
            delivered: u64::from(fits),
            conflated: self.lost.conflated - before.conflated,
            dropped: self.lost.dropped - before.dropped,
        })
    }

    /// Takes out what has waited longest.
    pub fn pop(&mut self) -> Option<T> {
        let firm = self.firm.front().map(|(number, _)| *number);
        let soft = self.soft.first_key_value().map(|(number, _)| *number);
        let oldest = firm.into_iter().chain(soft).min()?;
        if oldest >= self.sealed_below {
            self.sealed_below = self.next;
            self.newest.clear();
        }
        if firm == Some(oldest) {
            let (_, Frame { bytes, frame }) = self.firm.pop_front()?;
            self.firm_bytes -= bytes;
            return Some(frame);
        }
        self.take_soft(oldest).map(|soft| soft.frame.frame)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many frames wait.
    pub fn len(&self) -> usize {
        self.firm.len() + self.soft.len()
    }

    /// Bytes that wait, [`WAITING_BYTES`] for each frame included.
    pub fn bytes(&self) -> usize {
        self.firm_bytes + self.soft_bytes
    }

    /// What was lost so far.
    pub fn lost(&self) -> Lost {
        self.lost
    }

    fn push_soft(&mut self, soft: Soft<T>) {
        self.make_room(soft.frame.bytes);
        self.soft_bytes += soft.frame.bytes;
        self.soft.insert(self.next, soft);
    }

    /// Takes the older value of this key out, unless it is sealed.
    fn conflate(&mut self, key: &Key) {
        if let Some(number) = self.newest.remove(key) {
            self.take_soft(number);
            self.lost.conflated += 1;
        }
    }

    /// There is room without what may be dropped.
    fn make_room(&mut self, bytes: usize) {
        while self.bytes() + bytes > self.bytes_max {
            let Some((&oldest, _)) = self.soft.first_key_value() else { return };
            self.take_soft(oldest);
            self.lost.dropped += 1;
        }
    }

    fn take_soft(&mut self, number: u64) -> Option<Soft<T>> {
        let soft = self.soft.remove(&number)?;
        self.soft_bytes -= soft.frame.bytes;
        if let Some(key) = &soft.key
            && self.newest.get(key) == Some(&number)
        {
            self.newest.remove(key);
        }
        Some(soft)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::tests::random::Random;
    use super::super::tests::seeds;
    use super::*;

    fn topic(name: &str) -> Topic {
        Topic::parse(name).expect(name)
    }

    fn drain<T>(backlog: &mut Backlog<T>) -> Vec<T> {
        std::iter::from_fn(|| backlog.pop()).collect()
    }

    fn tally(delivered: u64, conflated: u64, dropped: u64) -> Result<Tally, Overflow> {
        Ok(Tally { subscribers: 1, delivered, conflated, dropped })
    }

    /// Room for ten frames of 36 bytes.
    const TEN: usize = 10 * (36 + WAITING_BYTES);

    #[test]
    fn firm_frames_wait_until_there_is_no_room() {
        let mut backlog = Backlog::new(TEN);
        for number in 0..10 {
            assert_eq!(backlog.push(number, 36, Keep::Firm), tally(1, 0, 0));
        }
        assert_eq!(backlog.push(10, 36, Keep::Firm), Err(Overflow));
        assert_eq!((backlog.len(), backlog.bytes()), (10, TEN));
        assert!(drain(&mut backlog).into_iter().eq(0..10));
        assert_eq!(backlog.bytes(), 0);
    }

    #[test]
    fn the_oldest_that_may_be_dropped_makes_room() {
        let mut backlog = Backlog::new(TEN);
        backlog.push(0, 36, Keep::Firm).expect("room");
        for number in 1..15 {
            assert_eq!(backlog.push(number, 36, Keep::Droppable), tally(1, 0, u64::from(number > 9)));
        }
        assert_eq!(backlog.push(15, 3 * 100 - 64, Keep::Firm), tally(1, 0, 3), "a firm one of three times the size");
        assert_eq!(backlog.push(16, TEN, Keep::Droppable), tally(0, 0, 1), "too large in any case");
        assert_eq!(backlog.lost(), Lost { conflated: 0, dropped: 9 });
        assert_eq!(drain(&mut backlog), [0, 9, 10, 11, 12, 13, 14, 15]);
    }

    #[test]
    fn of_each_key_only_the_newest_waits() {
        let (prices, rates, eur) = (topic("prices"), topic("rates"), Arc::from("EUR"));
        let mut backlog = Backlog::new(TEN);
        let latest = |topic, key| Keep::Latest(topic, key);
        assert_eq!(backlog.push(1, 36, latest(&prices, None)), tally(1, 0, 0));
        assert_eq!(backlog.push(2, 36, latest(&prices, Some(&eur))), tally(1, 0, 0));
        assert_eq!(backlog.push(3, 36, latest(&rates, None)), tally(1, 0, 0));
        assert_eq!(backlog.push(4, 36, Keep::Firm), tally(1, 0, 0));
        assert_eq!(backlog.push(5, 36, latest(&prices, None)), tally(1, 1, 0));
        assert_eq!(backlog.push(6, 36, latest(&prices, None)), tally(1, 1, 0));
        assert_eq!((backlog.len(), backlog.lost().conflated), (4, 2));
        assert_eq!(drain(&mut backlog), [2, 3, 4, 6]);
    }

    #[test]
    fn a_value_that_changes_all_the_time_still_gets_through() {
        let names: Vec<_> = (0..5).map(|number| topic(&format!("t:{number}"))).collect();
        let mut backlog = Backlog::new(1 << 20);
        let mut got = [0; 5];
        for _ in 0..1000 {
            // The first changes ten times as often as the others, and each of these between any two reads.
            for _ in 0..10 {
                backlog.push(0, 36, Keep::Latest(&names[0], None)).expect("room");
            }
            for (index, name) in names.iter().enumerate().skip(1) {
                backlog.push(index, 36, Keep::Latest(name, None)).expect("room");
            }
            got[backlog.pop().expect("something waits")] += 1;
            assert!(backlog.len() <= 10, "at most two of each");
        }
        assert!(got.iter().all(|times| (180..220).contains(times)), "{got:?}");
    }

    #[test]
    fn against_a_list() {
        seeds(|seed| {
            let mut random = Random::new(seed);
            let bytes_max = 1000 + random.below(2000) as usize;
            let mut backlog = Backlog::new(bytes_max);
            let topics = ["a", "b", "c"].map(topic);
            // Number, bytes, whether it may be dropped, topic for which it is the latest, whether it is sealed.
            let mut list: Vec<(u32, usize, bool, Option<usize>, bool)> = Vec::new();
            let mut lost = Lost::default();
            for number in 0..400 {
                if random.one_in(3) {
                    if list.first().is_some_and(|first| !first.4) {
                        list.iter_mut().for_each(|one| one.4 = true);
                    }
                    let first = (!list.is_empty()).then(|| list.remove(0).0);
                    assert_eq!(backlog.pop(), first);
                    continue;
                }
                let len = random.below(300) as usize;
                let of = random.below(3) as usize;
                let (keep, droppable, latest) = match random.below(3) {
                    0 => (Keep::Firm, false, None),
                    1 => (Keep::Droppable, true, None),
                    _ => (Keep::Latest(&topics[of], None), true, Some(of)),
                };
                let pushed = backlog.push(number, len, keep);
                let bytes = len + WAITING_BYTES;
                let firm: usize = list.iter().filter(|one| !one.2).map(|one| one.1).sum();
                if firm + bytes > bytes_max {
                    assert_eq!(pushed.is_err(), !droppable);
                    lost.dropped += u64::from(droppable);
                    continue;
                }
                assert_eq!(pushed.expect("there is room").delivered, 1);
                let before = list.len();
                list.retain(|one| one.4 || one.3 != latest || latest.is_none());
                lost.conflated += (before - list.len()) as u64;
                while list.iter().map(|one| one.1).sum::<usize>() + bytes > bytes_max {
                    let oldest = list.iter().position(|one| one.2).expect("something may be dropped");
                    list.remove(oldest);
                    lost.dropped += 1;
                }
                list.push((number, bytes, droppable, latest, false));
                assert_eq!((backlog.len(), backlog.lost()), (list.len(), lost));
                assert_eq!(backlog.bytes(), list.iter().map(|one| one.1).sum::<usize>());
            }
            let left: BTreeSet<_> = list.iter().map(|one| one.0).collect();
            assert!(drain(&mut backlog).into_iter().eq(left));
            assert!(backlog.newest.is_empty());
        });
    }
}
