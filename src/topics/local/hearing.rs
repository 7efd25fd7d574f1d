//! What homes say.

use super::super::interest::SubjectIndex;
use super::super::message::{Deliver, Refused, Tally, Ticket, ToCore, ToHome};
use super::super::moment::Moment;
use super::super::name::Topic;
use super::super::pattern::{Pattern, Subject};
use super::super::position::{Epoch, Horizon, Position};
use super::super::publication::Publication;
use super::asking::{Asking, Recovery, Told, Waiter};
use super::{Begun, Follow, Local, Outlet};

/// How a publication fits behind what was handed on before.
enum Fit {
    /// It is the next one, or nobody has counted.
    Next,
    /// It was handed on before, or will come again with the answer that is awaited.
    Repeated,
    /// Something is missing before it.
    Gap,
}

impl Local {
    /// A home says something.
    pub fn handle(&mut self, from: usize, message: ToCore, now: Moment, outlet: &mut impl Outlet) {
        match message {
            ToCore::Deliver(deliver) => self.hear(from, &deliver, now, outlet),
            ToCore::Subscribed { topic, ticket, horizon, publications } => {
                self.hear_answer(&topic, ticket, horizon, &publications, now, outlet);
            }
            ToCore::NotSubscribed { topic, ticket, refused } => self.hear_refusal(&topic, ticket, refused, outlet),
            ToCore::PatternKnown { pattern, ticket } => self.hear_known(from, pattern, ticket, outlet),
            ToCore::Behind { topic, position, members } => {
                self.hear_behind(from, &topic, position, now, outlet);
                if let (Some(index), Some(members)) = (self.interest.find(topic.as_str()), members) {
                    outlet.members(&topic, &members, self.interest.members(index));
                }
            }
            ToCore::Count { topic, receipt } => {
                let scope = self.scope_of(&topic);
                let subscribers = self.interest.recipients(&topic, scope).len() as u64;
                outlet.send(from, ToHome::Tally { receipt, tally: Tally { subscribers, ..Tally::default() } });
            }
            ToCore::Presence { topic, change } => {
                if let Some(index) = self.interest.find(topic.as_str()) {
                    outlet.presence(&topic, &change, self.interest.members(index));
                }
            }
            ToCore::Attend { topic } => {
                let index = self.interest.find(topic.as_str());
                let attendance = index.and_then(|index| self.followed(index)?.attendance.as_ref());
                let members = attendance.map_or_else(Vec::new, |attendance| attendance.attendees().collect());
                outlet.send(from, ToHome::Attendance { topic, members });
            }
            ToCore::Answer { ticket, answer } => outlet.answer(ticket, answer),
        }
    }

    fn hear(&mut self, from: usize, deliver: &Deliver, now: Moment, outlet: &mut impl Outlet) {
        let Deliver { topic, epoch, publication, receipt } = deliver;
        match self.fit(topic, Position { epoch: *epoch, offset: publication.offset }) {
            // The home learns nothing of what became of it: this core does not know yet.
            Fit::Gap => self.fall_behind(topic, now, outlet),
            Fit::Repeated => {}
            Fit::Next => {
                if !self.interest.is_heard(topic, self.scope_of(topic)) {
                    outlet.send(from, ToHome::Nobody { topic: topic.clone() });
                }
                let tally = self.hand_on(topic, *epoch, publication, outlet);
                if let Some(receipt) = *receipt {
                    outlet.send(from, ToHome::Tally { receipt, tally });
                }
            }
        }
    }

    fn fit(&mut self, topic: &Topic, at: Position) -> Fit {
        let Some(followed) = self.interest.find(topic.as_str()).and_then(|index| self.followed(index)) else {
            return Fit::Next;
        };
        let Some(position) = followed.position else { return Fit::Next };
        if followed.asking.as_ref().is_some_and(|asking| asking.is_behind) {
            return Fit::Repeated;
        }
        if position.epoch == at.epoch && at.offset <= position.offset {
            return Fit::Repeated;
        }
        if position.epoch != at.epoch || at.offset > position.offset + 1 {
            return Fit::Gap;
        }
        followed.position = Some(at);
        Fit::Next
    }

    fn hand_on(&mut self, topic: &Topic, epoch: Epoch, publication: &Publication, outlet: &mut impl Outlet) -> Tally {
        let scope = self.scope_of(topic);
        let recipients = self.interest.recipients(topic, scope);
        if recipients.is_empty() {
            return Tally::default();
        }
        let subscribers = recipients.len() as u64;
        Tally { subscribers, ..outlet.deliver(topic, epoch, publication, recipients) }
    }

    /// Something was lost on the way: nothing is handed on until the home has said what.
    fn fall_behind(&mut self, topic: &Topic, now: Moment, outlet: &mut impl Outlet) {
        let Some(index) = self.interest.find(topic.as_str()) else { return };
        match self.followed(index).and_then(|followed| followed.asking.as_mut()) {
            Some(asking) => asking.is_behind = true,
            None => self.ask(index, topic, true, Vec::new(), now, outlet),
        }
    }

    fn hear_behind(&mut self, from: usize, topic: &Topic, position: Position, now: Moment, outlet: &mut impl Outlet) {
        let index = self.interest.find(topic.as_str());
        match index.and_then(|index| self.followed(index)?.position) {
            Some(known) if known == position => {}
            Some(_) => self.fall_behind(topic, now, outlet),
            // Those who hear it by a pattern are not counted for: they cannot be told what they missed.
            None => {
                let scope = self.scope_of(topic);
                let recipients = self.interest.recipients(topic, scope);
                if !recipients.is_empty() {
                    outlet.gap(topic, position, recipients);
                }
                if !self.interest.is_heard(topic, scope) {
                    outlet.send(from, ToHome::Nobody { topic: topic.clone() });
                }
            }
        }
    }

    fn hear_answer(
        &mut self,
        topic: &Topic,
        ticket: Ticket,
        horizon: Horizon,
        publications: &[Publication],
        now: Moment,
        outlet: &mut impl Outlet,
    ) {
        let Some((index, asking)) = self.take_asking(topic, ticket) else { return };
        let keeps_last_value = self.namespaces.of(topic).keeps_last_value();
        let told = Told { asked: asking.want, horizon, publications, keeps_last_value };
        if !self.catch_up(index, topic, &told, outlet) {
            return self.ask(index, topic, true, asking.waiters, now, outlet);
        }
        let mut unserved = Vec::new();
        for waiter in asking.waiters {
            match told.serve(&waiter) {
                Some((recovery, publications)) => {
                    self.interest.join(waiter.subscriber, index);
                    let begun = Begun { position: Some(horizon.position), recovery, publications };
                    outlet.subscribed(waiter.subscriber, &Subject::Topic(topic.clone()), &begun);
                }
                None => unserved.push(waiter),
            }
        }
        if !unserved.is_empty() {
            self.ask(index, topic, false, unserved, now, outlet);
        }
    }

    /// Brings those who hear the topic already to where the home stands. Answers `false` if that must be asked for.
    fn catch_up(&mut self, index: SubjectIndex, topic: &Topic, told: &Told<'_>, outlet: &mut impl Outlet) -> bool {
        let newest = told.horizon.position;
        let Some(followed) = self.followed(index) else { return true };
        let Some(position) = followed.position else {
            followed.position = Some(newest);
            return true;
        };
        match told.horizon.recovers(position).map(|()| told.since(position)) {
            Ok(None) => return false,
            Ok(Some(missed)) => {
                followed.position = Some(newest);
                for publication in missed {
                    self.hand_on(topic, newest.epoch, publication, outlet);
                }
            }
            Err(_) => {
                followed.position = Some(newest);
                let scope = self.scope_of(topic);
                outlet.gap(topic, newest, self.interest.recipients(topic, scope));
            }
        }
        true
    }

    fn hear_refusal(&mut self, topic: &Topic, ticket: Ticket, refused: Refused, outlet: &mut impl Outlet) {
        let Some((_, asking)) = self.take_asking(topic, ticket) else { return };
        for Waiter { subscriber, .. } in asking.waiters {
            self.unsubscribe(subscriber, topic.as_str(), outlet);
            outlet.refused(subscriber, topic, refused);
        }
    }

    fn hear_known(&mut self, from: usize, pattern: Pattern, ticket: Ticket, outlet: &mut impl Outlet) {
        let Some(index) = self.interest.find(pattern.as_str()) else { return };
        let Some(Follow::Pattern(follow)) = self.interest.value_mut(index) else { return };
        let Some(spreading) = follow.as_mut().filter(|spreading| spreading.ticket == ticket) else { return };
        spreading.missing.remove(from);
        if !spreading.missing.is_empty() {
            return;
        }
        let waiters = follow.take().map(|spreading| spreading.waiters).unwrap_or_default();
        let subject = Subject::Pattern(pattern);
        for subscriber in waiters {
            self.interest.join(subscriber, index);
            outlet.subscribed(subscriber, &subject, &Begun::of_pattern());
        }
    }

    /// The question that this is the answer to, if it is still awaited.
    fn take_asking(&mut self, topic: &Topic, ticket: Ticket) -> Option<(SubjectIndex, Asking)> {
        let index = self.interest.find(topic.as_str())?;
        let asking = self.followed(index)?.asking.take_if(|asking| asking.ticket == ticket)?;
        Some((index, *asking))
    }

    /// Bytes in the name of the topic's namespace; not looked for while no pattern needs it.
    fn scope_of(&self, topic: &Topic) -> usize {
        if self.interest.has_patterns() { self.namespaces.of(topic).name.len() } else { 0 }
    }
}

impl Begun<'_> {
    pub(super) fn of_pattern() -> Self {
        Self { position: None, recovery: Recovery::NotAsked, publications: &[] }
    }
}
