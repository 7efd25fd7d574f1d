//! How subscriptions end.

use super::super::interest::{Ended, SubjectIndex, SubscriberId};
use super::super::message::ToHome;
use super::super::pattern::Subject;
use super::{Follow, Local, Outlet};

impl Local {
    /// A connection does not want to hear this topic or pattern any more. Answers whether it did.
    pub fn unsubscribe(&mut self, subscriber: SubscriberId, subject: &str, outlet: &mut impl Outlet) -> bool {
        let Some(index) = self.interest.find(subject) else { return false };
        if !self.interest.is_subscribed(subscriber, subject) {
            return false;
        }
        self.leave(subscriber, index, outlet);
        let ended = self.interest.unsubscribe(subscriber, subject);
        ended.into_iter().for_each(|ended| self.tell_home(ended, outlet));
        true
    }

    /// A connection is gone: so are all its subscriptions.
    pub fn remove(&mut self, subscriber: SubscriberId, outlet: &mut impl Outlet) {
        let indexes: Vec<_> = self.interest.indexes_of(subscriber).collect();
        for &index in &indexes {
            self.leave(subscriber, index, outlet);
        }
        let mut ends = Vec::with_capacity(indexes.len());
        self.interest.remove(subscriber, |ended| ends.push(ended));
        ends.into_iter().for_each(|ended| self.tell_home(ended, outlet));
    }

    /// It neither waits any more nor is it present.
    fn leave(&mut self, subscriber: SubscriberId, index: SubjectIndex, outlet: &mut impl Outlet) {
        let Some(subject) = self.interest.subject(index) else { return };
        match (subject, self.interest.value_mut(index)) {
            (Subject::Topic(topic), Some(Follow::Topic(followed))) => {
                if let Some(asking) = &mut followed.asking {
                    asking.waiters.retain(|waiter| waiter.subscriber != subscriber);
                }
                let Some(attendance) = &mut followed.attendance else { return };
                let gone = attendance.leave(subscriber);
                if attendance.is_empty() {
                    followed.attendance = None;
                }
                let Some((user, connections)) = gone else { return };
                let home = self.home_of(&topic);
                let message = match connections {
                    0 => ToHome::Leave { topic, user },
                    _ => ToHome::Recount { topic, user, connections },
                };
                outlet.send(home, message);
            }
            (Subject::Pattern(_), Some(Follow::Pattern(Some(spreading)))) => {
                spreading.waiters.retain(|waiter| *waiter != subscriber);
            }
            _ => {}
        }
    }

    /// If it was the last one of its subject here, nothing of it needs to come any more.
    fn tell_home(&mut self, ended: Ended<Follow>, outlet: &mut impl Outlet) {
        match (ended.subject, ended.last) {
            (_, None) => {}
            (Subject::Topic(topic), Some(_)) => outlet.send(self.home_of(&topic), ToHome::Unsubscribe { topic }),
            (Subject::Pattern(pattern), Some(_)) => {
                for core in 0..self.core_count {
                    outlet.send(core, ToHome::PatternEnded { pattern: pattern.clone() });
                }
            }
        }
    }
}
