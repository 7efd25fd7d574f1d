//! What was published under a key that its publisher has chosen, so that saying it twice does not do it twice.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::super::moment::Moment;
use super::super::name::Topic;
use super::super::position::Position;

/// Most bytes in an idempotency key.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 128;

type Key = (Topic, Arc<str>);

/// Places of publications by topic and key, for a while: bounded by age and number.
#[derive(Debug)]
pub(super) struct Idempotency {
    published: HashMap<Key, Position>,
    /// Oldest first. As all are kept equally long, that is also the order in which they end.
    ends: VecDeque<(Moment, Key)>,
    keys_max: usize,
    keep: Duration,
}

impl Idempotency {
    pub(super) fn new(keys_max: usize, keep: Duration) -> Self {
        Self { published: HashMap::new(), ends: VecDeque::new(), keys_max, keep }
    }

    /// The place of the publication with this key, if there was one.
    pub(super) fn find(&mut self, topic: &Topic, key: &Arc<str>, now: Moment) -> Option<Position> {
        self.expire(now);
        self.published.get(&(topic.clone(), key.clone())).copied()
    }

    /// Remembers a key that is not there. If there are too many, the oldest is forgotten before its time.
    pub(super) fn insert(&mut self, topic: &Topic, key: &Arc<str>, position: Position, now: Moment) {
        if self.keys_max == 0 {
            return;
        }
        if self.published.len() == self.keys_max {
            self.forget_oldest();
        }
        let key = (topic.clone(), key.clone());
        self.ends.push_back((now.after(self.keep), key.clone()));
        self.published.insert(key, position);
    }

    fn expire(&mut self, now: Moment) {
        while self.ends.front().is_some_and(|(end, _)| *end <= now) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, key)) = self.ends.pop_front() {
            self.published.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::position::Epoch;
    use super::*;

    #[test]
    fn a_key_is_kept_for_its_time_and_within_the_bound() {
        let mut keys = Idempotency::new(2, Duration::from_millis(100));
        let [a, b] = ["a", "b"].map(|name| Topic::parse(name).expect("good"));
        let [one, two, three] = ["1", "2", "3"].map(Arc::<str>::from);
        let at = |offset| Position { epoch: Epoch::new(1), offset };
        keys.insert(&a, &one, at(1), Moment(0));
        keys.insert(&a, &two, at(2), Moment(50));
        assert_eq!(keys.find(&a, &one, Moment(99)), Some(at(1)));
        assert_eq!(keys.find(&b, &one, Moment(99)), None, "each topic has its own");
        assert_eq!(keys.find(&a, &one, Moment(100)), None);
        keys.insert(&b, &one, at(3), Moment(100));
        keys.insert(&b, &three, at(4), Moment(100));
        assert_eq!(keys.find(&a, &two, Moment(100)), None, "forgotten early: there is room for two");
        assert_eq!((keys.find(&b, &one, Moment(199)), keys.find(&b, &three, Moment(199))), (Some(at(3)), Some(at(4))));
        assert_eq!((keys.find(&b, &one, Moment(200)), keys.ends.len(), keys.published.len()), (None, 0, 0));
    }
}
