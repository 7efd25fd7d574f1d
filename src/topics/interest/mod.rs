//! Who on this core hears what: topics and patterns to subscribers, and back.
//!
//! A subscription is a number of four bytes in its topic's dense list of members and a [`Seat`] of eight in its
//! subscriber's list, which knows its place in the other. So delivering reads one array from end to end, and ending a
//! subscription, or all of a connection's, costs no search among a topic's other members.
//!
//! A subscription begins *waiting*: it is known, but nothing is delivered to it until [`Interest::join`].
//!
//! Knows not what topics have to do with each other, nor where they live. Whoever uses it keeps a value of type `T`
//! with each topic and pattern that has a subscription.

mod paged;
mod seats;

use std::collections::HashMap;
use std::sync::Arc;

use super::name::Topic;
use super::pattern::Subject;
use super::pattern_tree::PatternTree;
use paged::{Paged, grow_for_one, shrink};
use seats::{Seat, Seats, WAITING};

/// A connection of this core. Opaque here; small numbers, as there is a table by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriberId(pub u32);

/// A topic or pattern with at least one subscription on this core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubjectIndex(u32);

/// All subscriptions of one core.
#[derive(Debug)]
pub struct Interest<T> {
    by_name: HashMap<Arc<str>, u32>,
    entries: Paged<Option<Entry<T>>>,
    /// Indexes below `entries_made` that are free.
    free: Vec<u32>,
    entries_made: u32,
    by_subscriber: Paged<Seats>,
    patterns: PatternTree<PatternEntry>,
    subscription_count: usize,
    /// Reused by [`Interest::recipients`].
    merged: Vec<SubscriberId>,
}

#[derive(Debug)]
struct Entry<T> {
    name: Arc<str>,
    members: Vec<SubscriberId>,
    waiting_count: u32,
    value: T,
}

#[derive(Clone, Copy, Debug)]
struct PatternEntry {
    index: u32,
    /// Bytes in the name of its namespace.
    scope: usize,
}

/// A subscription that has ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Ended<T> {
    /// What it was to.
    pub subject: Subject,
    /// Whether it was the last one on this core: then this is the value that was kept with the subject.
    pub last: Option<T>,
}

impl<T> Default for Interest<T> {
    fn default() -> Self {
        Self {
            by_name: HashMap::new(),
            entries: Paged::default(),
            free: Vec::new(),
            entries_made: 0,
            by_subscriber: Paged::default(),
            patterns: PatternTree::default(),
            subscription_count: 0,
            merged: Vec::new(),
        }
    }
}

impl<T> Interest<T> {
    /// Adds a waiting subscription. If it is the first one of its subject on this core, `value` is kept with that.
    ///
    /// `scope` is the number of bytes in the name of the subject's namespace: a pattern hears only topics of equal
    /// scope. Answers `None` if the subscription exists already.
    pub fn subscribe(
        &mut self,
        subscriber: SubscriberId,
        subject: &Subject,
        scope: usize,
        value: impl FnOnce() -> T,
    ) -> Option<SubjectIndex> {
        let index = match self.by_name.get(&**subject.shared()) {
            Some(&index) => index,
            None => self.add_entry(subject, scope, value()),
        };
        let seats = self.by_subscriber.make(subscriber.0);
        if seats.find(index).is_some() {
            return None;
        }
        seats.insert(Seat { topic: index, place: WAITING });
        self.entry_mut(index).waiting_count += 1;
        self.subscription_count += 1;
        Some(SubjectIndex(index))
    }

    /// From now on the subscription is delivered to. Answers whether it was waiting.
    pub fn join(&mut self, subscriber: SubscriberId, subject: SubjectIndex) -> bool {
        let Some(seats) = self.by_subscriber.get_mut(subscriber.0) else { return false };
        if seats.find(subject.0).is_none_or(|seat| seat.place != WAITING) {
            return false;
        }
        let entry = self.entries.get_mut(subject.0).and_then(Option::as_mut).expect("a seat has an entry");
        seats.set_place(subject.0, entry.members.len() as u32);
        grow_for_one(&mut entry.members);
        entry.members.push(subscriber);
        entry.waiting_count -= 1;
        true
    }

    /// Ends one subscription, if it exists.
    pub fn unsubscribe(&mut self, subscriber: SubscriberId, subject: &str) -> Option<Ended<T>> {
        let index = *self.by_name.get(subject)?;
        let seat = self.by_subscriber.get_mut(subscriber.0)?.remove(index)?;
        Some(self.end(seat))
    }

    /// Ends all subscriptions of a subscriber: its connection is gone.
    pub fn remove(&mut self, subscriber: SubscriberId, mut tell: impl FnMut(Ended<T>)) {
        let Some(seats) = self.by_subscriber.get_mut(subscriber.0) else { return };
        let seats = std::mem::take(seats);
        for &seat in seats.as_slice() {
            tell(self.end(seat));
        }
    }

    /// Whether the subscriber has subscribed to this topic or pattern, waiting or not.
    pub fn is_subscribed(&self, subscriber: SubscriberId, subject: &str) -> bool {
        let seats = self.by_subscriber.get(subscriber.0);
        let index = self.by_name.get(subject);
        seats.zip(index).is_some_and(|(seats, &index)| seats.find(index).is_some())
    }

    /// Everything that a subscriber has subscribed to.
    pub fn subjects_of(&self, subscriber: SubscriberId) -> impl Iterator<Item = Subject> {
        let seats = self.by_subscriber.get(subscriber.0).map_or(&[][..], Seats::as_slice);
        seats.iter().map(|seat| Subject::known(self.entry(seat.topic).name.clone()))
    }

    /// As [`Interest::subjects_of`].
    pub fn indexes_of(&self, subscriber: SubscriberId) -> impl Iterator<Item = SubjectIndex> {
        let seats = self.by_subscriber.get(subscriber.0).map_or(&[][..], Seats::as_slice);
        seats.iter().map(|seat| SubjectIndex(seat.topic))
    }

    /// How many subscriptions there are on this core.
    pub fn subscription_count(&self) -> usize {
        self.subscription_count
    }

    /// How many topics and patterns have subscriptions on this core.
    pub fn subject_count(&self) -> usize {
        self.by_name.len()
    }

    /// A topic or pattern that has a subscription.
    pub fn find(&self, subject: &str) -> Option<SubjectIndex> {
        self.by_name.get(subject).copied().map(SubjectIndex)
    }

    /// The name of a topic or pattern. `None` if it has no subscription any more.
    pub fn subject(&self, subject: SubjectIndex) -> Option<Subject> {
        Some(Subject::known(self.entries.get(subject.0)?.as_ref()?.name.clone()))
    }

    /// The value that is kept with a topic or pattern.
    pub fn value(&self, subject: SubjectIndex) -> Option<&T> {
        Some(&self.entries.get(subject.0)?.as_ref()?.value)
    }

    /// The value that is kept with a topic or pattern.
    pub fn value_mut(&mut self, subject: SubjectIndex) -> Option<&mut T> {
        Some(&mut self.entries.get_mut(subject.0)?.as_mut()?.value)
    }

    /// Those that have joined a topic or pattern by its own name.
    pub fn members(&self, subject: SubjectIndex) -> &[SubscriberId] {
        self.entries.get(subject.0).and_then(Option::as_ref).map_or(&[], |entry| &entry.members)
    }

    /// Whether some subscription on this core is to a pattern.
    pub fn has_patterns(&self) -> bool {
        !self.patterns.is_empty()
    }

    /// Whether somebody hears the topic or is waiting to. `scope` as in [`Interest::recipients`].
    pub fn is_heard(&self, topic: &Topic, scope: usize) -> bool {
        let mut is_heard = self.by_name.contains_key(topic.as_str());
        self.patterns.for_each_match(topic, |pattern| is_heard |= pattern.scope == scope);
        is_heard
    }

    /// Everybody who is to hear a publication of the topic, by its own name or by a pattern, and each once.
    ///
    /// `scope` is the number of bytes in the name of the topic's namespace, which only matters if this core
    /// [has patterns](Interest::has_patterns).
    pub fn recipients(&mut self, topic: &Topic, scope: usize) -> &[SubscriberId] {
        self.merged.clear();
        let (entries, merged) = (&self.entries, &mut self.merged);
        let members = |index| entries.get(index).and_then(Option::as_ref).map_or(&[][..], |entry| &entry.members);
        self.patterns.for_each_match(topic, |pattern| {
            if pattern.scope == scope {
                merged.extend_from_slice(members(pattern.index));
            }
        });
        let by_name = self.by_name.get(topic.as_str()).map_or(&[][..], |&index| members(index));
        if self.merged.is_empty() {
            return by_name;
        }
        self.merged.extend_from_slice(by_name);
        self.merged.sort_unstable();
        self.merged.dedup();
        &self.merged
    }

    /// Namespaces have changed: asks for the scope of each pattern again.
    pub fn rescope(&mut self, scope_of: impl Fn(&Subject) -> usize) {
        let entries = &self.entries;
        self.patterns.retain(|pattern| {
            let entry = entries.get(pattern.index).and_then(Option::as_ref).expect("a pattern has an entry");
            pattern.scope = scope_of(&Subject::known(entry.name.clone()));
            true
        });
    }

    fn add_entry(&mut self, subject: &Subject, scope: usize, value: T) -> u32 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.entries_made += 1;
            self.entries_made - 1
        });
        let name = subject.shared().clone();
        self.by_name.insert(name.clone(), index);
        *self.entries.make(index) = Some(Entry { name, members: Vec::new(), waiting_count: 0, value });
        if let Subject::Pattern(pattern) = subject {
            self.patterns.get_or_insert_with(pattern, || PatternEntry { index, scope });
        }
        index
    }

    /// The seat was taken out of its subscriber's list.
    fn end(&mut self, seat: Seat) -> Ended<T> {
        self.subscription_count -= 1;
        let entry = self.entries.get_mut(seat.topic).and_then(Option::as_mut).expect("a seat has an entry");
        if seat.place == WAITING {
            entry.waiting_count -= 1;
        } else {
            entry.members.swap_remove(seat.place as usize);
            if let Some(moved) = entry.members.get(seat.place as usize) {
                self.by_subscriber.make(moved.0).set_place(seat.topic, seat.place);
            }
            shrink(&mut entry.members);
        }
        let subject = Subject::known(entry.name.clone());
        let is_last = entry.members.is_empty() && entry.waiting_count == 0;
        Ended { last: is_last.then(|| self.remove_entry(seat.topic, &subject)), subject }
    }

    fn remove_entry(&mut self, index: u32, subject: &Subject) -> T {
        let entry = self.entries.get_mut(index).and_then(Option::take).expect("it was there");
        self.by_name.remove(&*entry.name);
        if let Subject::Pattern(pattern) = subject {
            self.patterns.remove(pattern);
        }
        self.free.push(index);
        entry.value
    }

    fn entry(&self, index: u32) -> &Entry<T> {
        self.entries.get(index).and_then(Option::as_ref).expect("a seat has an entry")
    }

    fn entry_mut(&mut self, index: u32) -> &mut Entry<T> {
        self.entries.get_mut(index).and_then(Option::as_mut).expect("a name has an entry")
    }
}

#[cfg(test)]
mod tests;
