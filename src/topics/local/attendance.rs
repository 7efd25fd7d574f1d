//! The members of one topic on one core.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::super::interest::SubscriberId;
use super::super::message::{Digest, Member, UserId};
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

    /// A connection has come. Answers whether it is the first of its user.
    pub(super) fn enter(&mut self, subscriber: SubscriberId, member: &Member) -> bool {
        self.by_subscriber.insert(subscriber, member.user.clone());
        let attending = self
            .users
            .entry(member.user.clone())
            .or_insert_with(|| Attending { connection_count: 0, info: member.info.clone() });
        attending.connection_count += 1;
        let is_first = attending.connection_count == 1;
        if is_first {
            self.digest.add(&member.user);
        }
        is_first
    }

    /// A connection has gone. Answers its user if it was the last one.
    pub(super) fn leave(&mut self, subscriber: SubscriberId) -> Option<UserId> {
        let user = self.by_subscriber.remove(&subscriber)?;
        let attending = self.users.get_mut(&user)?;
        attending.connection_count -= 1;
        if attending.connection_count > 0 {
            return None;
        }
        self.users.remove(&user);
        self.digest.remove(&user);
        Some(user)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    pub(super) fn digest(&self) -> Digest {
        self.digest
    }

    pub(super) fn members(&self) -> impl Iterator<Item = Member> {
        self.users.iter().map(|(user, attending)| Member { user: user.clone(), info: attending.info.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_there_from_the_first_connection_to_the_last() {
        let member = |user: &str| Member { user: user.into(), info: Bytes::new() };
        let mut attendance = Attendance::new(Moment(0));
        assert!(attendance.enter(SubscriberId(1), &member("ann")));
        assert!(!attendance.enter(SubscriberId(2), &member("ann")));
        assert!(attendance.enter(SubscriberId(3), &member("bob")));
        let mut digest = Digest::default();
        ["bob", "ann"].iter().for_each(|user| digest.add(user));
        assert_eq!(attendance.digest(), digest);
        assert_eq!(attendance.leave(SubscriberId(1)), None);
        assert_eq!(attendance.leave(SubscriberId(1)), None, "said twice");
        assert_eq!(attendance.leave(SubscriberId(2)).as_deref(), Some("ann"));
        assert!(attendance.members().eq([member("bob")]));
        assert_eq!(attendance.leave(SubscriberId(3)).as_deref(), Some("bob"));
        assert!(attendance.is_empty() && attendance.digest() == Digest::default());
    }
}
