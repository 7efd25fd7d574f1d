//! What somebody who watches the server is told of a home: what was published most, and everything that was published
//! where he listens.
//!
//! Nobody is told anything that he does not ask for, and who has not asked for a while is forgotten. So a home that
//! nobody watches does nothing for it, and one that is watched holds a bounded amount.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::super::message::{Heard, Watch, Watched, WatcherId};
use super::super::moment::Moment;
use super::super::name::Topic;
use super::super::pattern::Subject;
use super::super::position::Epoch;
use super::super::publication::Publication;

/// Those who watch one home.
#[derive(Debug, Default)]
pub(super) struct Watchers(Vec<Watcher>);

#[derive(Debug)]
struct Watcher {
    id: WatcherId,
    hear: Option<Subject>,
    /// When he asked last: everything below is since then.
    asked_at: Moment,
    publication_count: u64,
    counts: HashMap<Topic, u64>,
    heard: VecDeque<Heard>,
    heard_bytes: usize,
    unheard: u64,
}

impl Watchers {
    /// Something was published.
    pub(super) fn note(&mut self, topic: &Topic, epoch: Epoch, publication: &Publication) {
        for watcher in &mut self.0 {
            watcher.note(topic, epoch, publication);
        }
    }

    /// What has happened since this watcher asked last. From now on he is remembered for a while.
    pub(super) fn ask(&mut self, watch: Watch, now: Moment) -> Watched {
        let Watch { watcher: id, hear } = watch;
        if let Some(known) = self.0.iter_mut().find(|watcher| watcher.id == id) {
            return known.tell(hear, now);
        }
        if self.0.len() >= WATCHERS_MAX {
            // Instead of whoever asked longest ago.
            let oldest = self.0.iter().enumerate().min_by_key(|(_, watcher)| watcher.asked_at);
            let index = oldest.map_or(0, |(index, _)| index);
            self.0.swap_remove(index);
        }
        self.0.push(Watcher::new(id, hear, now));
        Watched::default()
    }

    /// Forgets who has not asked for a while.
    pub(super) fn expire(&mut self, now: Moment) {
        self.0.retain(|watcher| watcher.expires_at() > now);
    }

    pub(super) fn deadline(&self) -> Option<Moment> {
        self.0.iter().map(Watcher::expires_at).min()
    }
}

impl Watcher {
    fn new(id: WatcherId, hear: Option<Subject>, now: Moment) -> Self {
        Self {
            id,
            hear,
            asked_at: now,
            publication_count: 0,
            counts: HashMap::new(),
            heard: VecDeque::new(),
            heard_bytes: 0,
            unheard: 0,
        }
    }

    fn note(&mut self, topic: &Topic, epoch: Epoch, publication: &Publication) {
        self.publication_count += 1;
        if let Some(count) = self.counts.get_mut(topic) {
            *count += 1;
        } else if self.counts.len() < COUNTED_TOPICS_MAX {
            self.counts.insert(topic.clone(), 1);
        }
        if self.hears(topic) {
            self.heard_bytes += publication.draft.bytes();
            self.heard.push_back(Heard { topic: topic.clone(), epoch, publication: publication.clone() });
            self.bound();
        }
    }

    fn hears(&self, topic: &Topic) -> bool {
        match &self.hear {
            Some(Subject::Topic(heard)) => heard == topic,
            Some(Subject::Pattern(pattern)) => pattern.matches(topic),
            None => false,
        }
    }

    /// The newest stay.
    fn bound(&mut self) {
        while self.heard.len() > HEARD_MAX || self.heard_bytes > HEARD_BYTES_MAX {
            let Some(oldest) = self.heard.pop_front() else { break };
            self.heard_bytes -= oldest.publication.draft.bytes();
            self.unheard += 1;
        }
    }

    fn tell(&mut self, hear: Option<Subject>, now: Moment) -> Watched {
        let mut busiest: Vec<_> = self.counts.drain().collect();
        let rank = |(topic, count): &(Topic, u64)| (Reverse(*count), topic.clone());
        if busiest.len() > BUSIEST_MAX {
            busiest.select_nth_unstable_by_key(BUSIEST_MAX, rank);
            busiest.truncate(BUSIEST_MAX);
        }
        busiest.sort_unstable_by_key(rank);
        self.heard_bytes = 0;
        self.hear = hear;
        let since = std::mem::replace(&mut self.asked_at, now);
        Watched {
            topic_count: 0,
            span: Duration::from_millis(now.0.saturating_sub(since.0)),
            publication_count: std::mem::take(&mut self.publication_count),
            busiest,
            heard: std::mem::take(&mut self.heard).into(),
            unheard: std::mem::take(&mut self.unheard),
        }
    }

    fn expires_at(&self) -> Moment {
        self.asked_at.after(LEASE)
    }
}

/// How long after his last question a watcher is remembered.
const LEASE: Duration = Duration::from_secs(10);
/// Most watchers at a time.
const WATCHERS_MAX: usize = 16;
/// Most topics that are counted for one watcher between two questions; more are only counted together.
const COUNTED_TOPICS_MAX: usize = 8192;
/// Most topics of which one is told how much was published.
const BUSIEST_MAX: usize = 20;
/// Most publications that are kept for one watcher between two questions.
const HEARD_MAX: usize = 256;
/// Most bytes of them.
const HEARD_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::super::publication::{DataKind, Draft};
    use super::*;

    const ADA: WatcherId = WatcherId(1);

    fn topic(name: &str) -> Topic {
        Topic::parse(name).expect(name)
    }

    fn hear(subject: &str) -> Option<Subject> {
        Some(Subject::parse(subject).expect(subject))
    }

    fn publish(watchers: &mut Watchers, name: &str, offset: u64, bytes: usize) {
        let draft = Draft { kind: DataKind::Text, data: Bytes::from(vec![b'x'; bytes]), key: None, publisher: None };
        watchers.note(&topic(name), Epoch::new(5), &Publication { offset, draft });
    }

    fn ask(watchers: &mut Watchers, id: WatcherId, hear: Option<Subject>, at: u64) -> Watched {
        watchers.ask(Watch { watcher: id, hear }, Moment(at))
    }

    #[test]
    fn counts_are_since_the_last_question_and_the_busiest_come_first() {
        let mut watchers = Watchers::default();
        publish(&mut watchers, "before", 1, 1);
        assert_eq!(ask(&mut watchers, ADA, None, 1000), Watched::default());
        for (name, count) in [("b", 2), ("a", 2), ("c", 5)] {
            (1..=count).for_each(|offset| publish(&mut watchers, name, offset, 1));
        }
        let told = ask(&mut watchers, ADA, None, 1500);
        assert_eq!(told.busiest, [(topic("c"), 5), (topic("a"), 2), (topic("b"), 2)]);
        assert_eq!((told.publication_count, told.span), (9, Duration::from_millis(500)));
        assert!(told.heard.is_empty(), "nothing was listened to");
        let told = ask(&mut watchers, ADA, None, 2500);
        assert_eq!((told.publication_count, told.span), (0, Duration::from_secs(1)));
        assert!(told.busiest.is_empty());
    }

    #[test]
    fn a_watcher_hears_a_topic_or_a_pattern_in_order() {
        let mut watchers = Watchers::default();
        for (subject, want) in
            [("p:a", vec![("p:a", 1), ("p:a", 2)]), ("p:*", vec![("p:a", 1), ("p:b", 1), ("p:a", 2)])]
        {
            ask(&mut watchers, ADA, hear(subject), 0);
            for (name, offset) in [("p:a", 1), ("p:b", 1), ("q:a", 1), ("p:a", 2)] {
                publish(&mut watchers, name, offset, 1);
            }
            let told = ask(&mut watchers, ADA, None, 10).heard;
            let told: Vec<_> = told.iter().map(|heard| (heard.topic.as_str(), heard.publication.offset)).collect();
            assert_eq!(told, want, "{subject}");
        }
        publish(&mut watchers, "p:a", 3, 1);
        assert!(ask(&mut watchers, ADA, None, 20).heard.is_empty(), "he has stopped listening");
    }

    #[test]
    fn two_watchers_do_not_take_from_each_other() {
        let mut watchers = Watchers::default();
        ask(&mut watchers, ADA, hear("a"), 0);
        ask(&mut watchers, WatcherId(2), hear("b"), 0);
        publish(&mut watchers, "a", 1, 1);
        let (first, second) = (ask(&mut watchers, ADA, None, 9), ask(&mut watchers, WatcherId(2), None, 9));
        assert_eq!((first.publication_count, first.heard.len()), (1, 1));
        assert_eq!((second.publication_count, second.heard.len()), (1, 0));
    }

    #[test]
    fn what_is_kept_is_bounded_and_what_is_lost_is_told() {
        let mut watchers = Watchers::default();
        ask(&mut watchers, ADA, hear("a"), 0);
        (1..=HEARD_MAX as u64 + 3).for_each(|offset| publish(&mut watchers, "a", offset, 1));
        let told = ask(&mut watchers, ADA, hear("a"), 1);
        assert_eq!((told.heard.len(), told.unheard, told.heard[0].publication.offset), (HEARD_MAX, 3, 4));
        for offset in 1..=3 {
            publish(&mut watchers, "a", offset, HEARD_BYTES_MAX / 2);
        }
        let told = ask(&mut watchers, ADA, hear("a"), 2);
        assert_eq!((told.heard.len(), told.unheard), (2, 1));
        // One that is too large alone.
        publish(&mut watchers, "a", 1, HEARD_BYTES_MAX + 1);
        let told = ask(&mut watchers, ADA, None, 3);
        assert_eq!((told.heard.len(), told.unheard), (0, 1));

        for index in 0..COUNTED_TOPICS_MAX + 10 {
            publish(&mut watchers, &format!("t{index}"), 1, 1);
        }
        let told = ask(&mut watchers, ADA, None, 4);
        assert_eq!((told.busiest.len(), told.publication_count), (BUSIEST_MAX, COUNTED_TOPICS_MAX as u64 + 10));
    }

    #[test]
    fn who_asks_no_more_is_forgotten_and_no_more_than_some_are_remembered() {
        let mut watchers = Watchers::default();
        assert_eq!(watchers.deadline(), None);
        ask(&mut watchers, ADA, None, 0);
        let lapses = Moment(0).after(LEASE);
        assert_eq!(watchers.deadline(), Some(lapses));
        watchers.expire(Moment(lapses.0 - 1));
        assert_eq!(watchers.0.len(), 1);
        watchers.expire(lapses);
        assert_eq!((watchers.0.len(), watchers.deadline()), (0, None));

        for id in 0..=WATCHERS_MAX as u64 {
            ask(&mut watchers, WatcherId(id), None, id);
        }
        assert_eq!(watchers.0.len(), WATCHERS_MAX);
        assert!(watchers.0.iter().all(|watcher| watcher.id != WatcherId(0)), "who asked longest ago makes room");
    }
}
