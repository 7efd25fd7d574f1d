//! The members of one topic on one core.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::super::interest::SubscriberId;
use super::super::message::{Attendee, Digest, Member, UserId};
use super::super::moment::Moment;

/// Users by connection, and how many connections each has.
#[derive(Debug)]
pub(super) struct Attendance {
    users: BTreeMap<UserId, Attending>,
    by_subscriber: BTreeMap<SubscriberId, UserId>,
    digest: Digest,
    /// When the home must be told that they are still there.
    pub(super) renew_at: Moment,
}

#[derive(Debug)]
struct Attending {
    connection_count: u32,
    info: Bytes,
}

impl Attendance {
    pub(super) fn new(renew_at: Moment) -> Self {
        Self { users: BTreeMap::new(), by_subscriber: BTreeMap::new(), digest: Digest::default(), renew_at }
    }

    /// A connection has come. Answers how many its user has now.
    pub(super) fn enter(&mut self, subscriber: SubscriberId, member: &Member) -> u32 {
        self.by_subscriber.insert(subscriber, member.user.clone());
        let attending = self
            .users
            .entry(member.user.clone())
            .or_insert_with(|| Attending { connection_count: 0, info: member.info.clone() });
        attending.connection_count += 1;
        self.digest.add(&member.user, 1);
        attending.connection_count
    }

    /// A connection has gone. Answers its user, and how many he has now; `None` if it was no member's.
    pub(super) fn leave(&mut self, subscriber: SubscriberId) -> Option<(UserId, u32)> {
        let user = self.by_subscriber.remove(&subscriber)?;
        let attending = self.users.get_mut(&user)?;
        attending.connection_count -= 1;
        let left = attending.connection_count;
        if left == 0 {
            self.users.remove(&user);
        }
        self.digest.remove(&user, 1);
        Some((user, left))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    pub(super) fn digest(&self) -> Digest {
        self.digest
    }

    pub(super) fn attendees(&self) -> impl Iterator<Item = Attendee> {
        self.users.iter().map(|(user, attending)| Attendee {
            member: Member { user: user.clone(), info: attending.info.clone() },
            connections: attending.connection_count,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_there_from_the_first_connection_to_the_last() {
        let member = |user: &str| Member { user: user.into(), info: Bytes::new() };
        let mut attendance = Attendance::new(Moment(0));
        assert_eq!(attendance.enter(SubscriberId(1), &member("ann")), 1);
        assert_eq!(attendance.enter(SubscriberId(2), &member("ann")), 2);
        assert_eq!(attendance.enter(SubscriberId(3), &member("bob")), 1);
        let mut digest = Digest::default();
        [("bob", 1), ("ann", 2)].iter().for_each(|(user, connections)| digest.add(user, *connections));
        assert_eq!(attendance.digest(), digest);
        assert!(attendance.attendees().map(|one| one.connections).eq([2, 1]));
        assert_eq!(attendance.leave(SubscriberId(1)), Some(("ann".into(), 1)));
        assert_eq!(attendance.leave(SubscriberId(1)), None, "said twice");
        assert_eq!(attendance.leave(SubscriberId(2)), Some(("ann".into(), 0)));
        assert!(attendance.attendees().eq([Attendee { member: member("bob"), connections: 1 }]));
        assert_eq!(attendance.leave(SubscriberId(3)), Some(("bob".into(), 0)));
        assert!(attendance.is_empty() && attendance.digest() == Digest::default());
    }
}
