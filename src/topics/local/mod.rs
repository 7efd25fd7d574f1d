//! The topics that connections of one core have subscribed to, wherever their homes are.
//!
//! It asks a topic's home once for all of its subscribers here, tells the home when the first one comes and the last
//! one goes, and hands publications on, each exactly once and in order. If one was lost on the way, the next one, or
//! the home, shows the gap, and what is missing is asked for like a client's own recovery.
//!
//! Knows no connections, only numbers for them, and reaches them through an [`Outlet`].

mod asking;
mod attendance;
mod hearing;
mod leaving;
mod outlet;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::interest::{Interest, SubjectIndex, SubscriberId};
use super::message::{Member, PRESENCE_RENEWAL, Ticket, ToHome, Want};
use super::moment::Moment;
use super::name::Topic;
use super::namespace::Namespaces;
use super::pattern::{Pattern, Subject};
use super::placement::{CoreSet, home_of};
use super::position::Position;
pub use asking::Recovery;
use asking::{Asking, Waiter};
use attendance::Attendance;
pub use outlet::{Begun, Outlet};

/// One core's subscriptions.
#[derive(Debug)]
pub struct Local {
    core_count: usize,
    namespaces: Arc<Namespaces>,
    interest: Interest<Follow>,
    tickets_given: u64,
    /// Questions by when they are asked again. All wait equally long, so they are in order; old ones may remain.
    retries: VecDeque<(Moment, SubjectIndex)>,
    /// Topics with members by when the home is told of them again. As above.
    renewals: VecDeque<(Moment, SubjectIndex)>,
}

/// What is known of a topic or pattern that somebody here has subscribed to.
#[derive(Debug)]
enum Follow {
    Topic(Followed),
    /// Some cores have not said yet that they know it.
    Pattern(Option<Box<Spreading>>),
}

#[derive(Debug, Default)]
struct Followed {
    /// The newest publication that was handed on; `None` until the home has first answered.
    position: Option<Position>,
    asking: Option<Box<Asking>>,
    attendance: Option<Box<Attendance>>,
}

/// A pattern on its way to all cores.
#[derive(Debug)]
struct Spreading {
    ticket: Ticket,
    retry_at: Moment,
    /// Cores that have not answered.
    missing: CoreSet,
    waiters: Vec<SubscriberId>,
}

/// The connection has this subscription already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the topic is subscribed to already")]
pub struct AlreadySubscribed;

/// A home that has not answered for so long is asked again.
const RETRY: Duration = Duration::from_secs(1);

impl Local {
    /// No subscriptions yet, on one of so many cores.
    pub fn new(core_count: usize, namespaces: Arc<Namespaces>) -> Self {
        Self {
            core_count,
            namespaces,
            interest: Interest::default(),
            tickets_given: 0,
            retries: VecDeque::new(),
            renewals: VecDeque::new(),
        }
    }

    /// A connection that is permitted to wants to hear a topic, and is told by [`Outlet::subscribed`], at once or
    /// later. If `member` is given and the namespace knows presence, it is present from now on.
    ///
    /// # Errors
    ///
    /// If it does so already.
    pub fn subscribe(
        &mut self,
        subscriber: SubscriberId,
        topic: &Topic,
        want: Want,
        member: Option<&Member>,
        now: Moment,
        outlet: &mut impl Outlet,
    ) -> Result<(), AlreadySubscribed> {
        let namespace = self.namespaces.of(topic).clone();
        let subject = Subject::Topic(topic.clone());
        let follow = || Follow::Topic(Followed::default());
        let index =
            self.interest.subscribe(subscriber, &subject, namespace.name.len(), follow).ok_or(AlreadySubscribed)?;
        match self.at_hand(index, want) {
            Some((position, recovery)) => {
                self.interest.join(subscriber, index);
                let begun = Begun { position: Some(position), recovery, publications: &[] };
                outlet.subscribed(subscriber, &subject, &begun);
            }
            None => self.wait(index, topic, Waiter { subscriber, want, is_late: false }, now, outlet),
        }
        if let Some(member) = member.filter(|_| namespace.presence) {
            self.enter(subscriber, index, topic, member, now, outlet);
        }
        Ok(())
    }

    /// A connection that is permitted to wants to hear all topics of this form, and is told by
    /// [`Outlet::subscribed`] as soon as every core knows. It is told nothing of the past.
    ///
    /// # Errors
    ///
    /// If it does so already.
    pub fn subscribe_pattern(
        &mut self,
        subscriber: SubscriberId,
        pattern: &Pattern,
        now: Moment,
        outlet: &mut impl Outlet,
    ) -> Result<(), AlreadySubscribed> {
        let scope = self.namespaces.of_pattern(pattern).name.len();
        let subject = Subject::Pattern(pattern.clone());
        let is_new = self.interest.find(pattern.as_str()).is_none();
        let missing = CoreSet::first(self.core_count);
        let (ticket, retry_at) = (self.ticket(), now.after(RETRY));
        let spreading = || Box::new(Spreading { ticket, retry_at, missing, waiters: Vec::new() });
        let follow = || Follow::Pattern(Some(spreading()));
        let index = self.interest.subscribe(subscriber, &subject, scope, follow).ok_or(AlreadySubscribed)?;
        if is_new {
            self.retries.push_back((retry_at, index));
            for core in missing.iter() {
                outlet.send(core, ToHome::Pattern { pattern: pattern.clone(), ticket });
            }
        }
        match self.interest.value_mut(index) {
            Some(Follow::Pattern(Some(spreading))) => spreading.waiters.push(subscriber),
            Some(Follow::Pattern(None) | Follow::Topic(_)) | None => {
                self.interest.join(subscriber, index);
                outlet.subscribed(subscriber, &subject, &Begun::of_pattern());
            }
        }
        Ok(())
    }

    /// When [`Local::handle_timeout`] must next be called.
    pub fn deadline(&self) -> Option<Moment> {
        let first = |queue: &VecDeque<(Moment, SubjectIndex)>| queue.front().map(|(at, _)| *at);
        [first(&self.retries), first(&self.renewals)].into_iter().flatten().min()
    }

    /// Asks again what was not answered, and tells homes that members are still there.
    pub fn handle_timeout(&mut self, now: Moment, outlet: &mut impl Outlet) {
        while let Some((at, index)) = self.retries.pop_front_if(|(at, _)| *at <= now) {
            self.retry(at, index, now, outlet);
        }
        while let Some((at, index)) = self.renewals.pop_front_if(|(at, _)| *at <= now) {
            self.renew(at, index, now, outlet);
        }
    }

    /// From now on these namespaces count. Subscriptions stay, whether they are still permitted or not.
    pub fn configure(&mut self, namespaces: Arc<Namespaces>) {
        self.interest.rescope(|subject| match subject {
            Subject::Topic(topic) => namespaces.of(topic).name.len(),
            Subject::Pattern(pattern) => namespaces.of_pattern(pattern).name.len(),
        });
        self.namespaces = namespaces;
    }

    /// Who hears what.
    pub fn interest(&self) -> &Interest<impl Sized> {
        &self.interest
    }

    /// Where the topic stands and whether what is missed is nothing, if that is known without asking the home.
    fn at_hand(&mut self, index: SubjectIndex, want: Want) -> Option<(Position, Recovery)> {
        let followed = self.followed(index)?;
        let is_behind = followed.asking.as_ref().is_some_and(|asking| asking.is_behind);
        let position = followed.position.filter(|_| !is_behind)?;
        match want {
            Want::Nothing => Some((position, Recovery::NotAsked)),
            Want::Since(since) if since == position => Some((position, Recovery::Recovered)),
            Want::Since(_) | Want::Last => None,
        }
    }

    /// Waits for the answer to the question that is under way, or asks one.
    fn wait(&mut self, index: SubjectIndex, topic: &Topic, waiter: Waiter, now: Moment, outlet: &mut impl Outlet) {
        let asking = self.followed(index).and_then(|followed| followed.asking.as_mut());
        match asking {
            Some(asking) => asking.waiters.push(Waiter { is_late: true, ..waiter }),
            None => self.ask(index, topic, false, vec![waiter], now, outlet),
        }
    }

    fn ask(
        &mut self,
        index: SubjectIndex,
        topic: &Topic,
        is_behind: bool,
        mut waiters: Vec<Waiter>,
        now: Moment,
        outlet: &mut impl Outlet,
    ) {
        waiters.iter_mut().for_each(|waiter| waiter.is_late = false);
        let (ticket, retry_at) = (self.ticket(), now.after(RETRY));
        let Some(followed) = self.followed(index) else { return };
        let want = Asking::question(followed.position.filter(|_| is_behind), &waiters);
        followed.asking = Some(Box::new(Asking { ticket, retry_at, want, is_behind, waiters }));
        self.retries.push_back((retry_at, index));
        outlet.send(self.home_of(topic), ToHome::Subscribe { topic: topic.clone(), ticket, want });
    }

    fn enter(
        &mut self,
        subscriber: SubscriberId,
        index: SubjectIndex,
        topic: &Topic,
        member: &Member,
        now: Moment,
        outlet: &mut impl Outlet,
    ) {
        let renew_at = now.after(PRESENCE_RENEWAL);
        let Some(followed) = self.followed(index) else { return };
        let is_new = followed.attendance.is_none();
        let attendance = followed.attendance.get_or_insert_with(|| Box::new(Attendance::new(renew_at)));
        let connections = attendance.enter(subscriber, member);
        if is_new {
            self.renewals.push_back((renew_at, index));
        }
        let (home, topic) = (self.home_of(topic), topic.clone());
        let message = match connections {
            1 => ToHome::Enter { topic, member: member.clone() },
            _ => ToHome::Recount { topic, user: member.user.clone(), connections },
        };
        outlet.send(home, message);
    }

    fn retry(&mut self, at: Moment, index: SubjectIndex, now: Moment, outlet: &mut impl Outlet) {
        let (subject, retry_at) = (self.interest.subject(index), now.after(RETRY));
        match (subject, self.interest.value_mut(index)) {
            (Some(Subject::Topic(topic)), Some(Follow::Topic(followed))) => {
                // The same question under the same number: whichever answer comes first is good.
                let Some(asking) = followed.asking.as_mut().filter(|asking| asking.retry_at == at) else { return };
                asking.retry_at = retry_at;
                let (ticket, want) = (asking.ticket, asking.want);
                outlet.send(self.home_of(&topic), ToHome::Subscribe { topic, ticket, want });
            }
            (Some(Subject::Pattern(pattern)), Some(Follow::Pattern(Some(spreading)))) => {
                if spreading.retry_at != at {
                    return;
                }
                spreading.retry_at = retry_at;
                for core in spreading.missing.iter() {
                    outlet.send(core, ToHome::Pattern { pattern: pattern.clone(), ticket: spreading.ticket });
                }
            }
            _ => return,
        }
        self.retries.push_back((retry_at, index));
    }

    fn renew(&mut self, at: Moment, index: SubjectIndex, now: Moment, outlet: &mut impl Outlet) {
        let Some(Subject::Topic(topic)) = self.interest.subject(index) else { return };
        let attendance = self.followed(index).and_then(|followed| followed.attendance.as_mut());
        let Some(attendance) = attendance.filter(|attendance| attendance.renew_at == at) else { return };
        let renew_at = now.after(PRESENCE_RENEWAL);
        attendance.renew_at = renew_at;
        let digest = attendance.digest();
        self.renewals.push_back((renew_at, index));
        outlet.send(self.home_of(&topic), ToHome::Renew { topic, digest });
    }

    fn followed(&mut self, index: SubjectIndex) -> Option<&mut Followed> {
        match self.interest.value_mut(index)? {
            Follow::Topic(followed) => Some(followed),
            Follow::Pattern(_) => None,
        }
    }

    fn ticket(&mut self) -> Ticket {
        self.tickets_given += 1;
        Ticket(self.tickets_given)
    }

    fn home_of(&self, topic: &Topic) -> usize {
        home_of(topic, self.core_count)
    }
}
