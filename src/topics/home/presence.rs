//! The members of a topic: users, each once, however many connections and cores that takes.
//!
//! A core tells when a user's first connection there comes and the last one goes, how many there are in between, and
//! says from time to time which it has, compressed to a digest. If the digests differ, something was lost on the way
//! and the core is asked for all of them. A core that says nothing for [`PRESENCE_LEASE`] has no members any more: there are no ghosts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

use super::super::message::{Attendee, Digest, Member, PRESENCE_RENEWAL, PresenceChange, UserId};
use super::super::moment::Moment;
use super::super::placement::CoreSet;

/// How long the members on a core are believed to be there after it has said so.
pub const PRESENCE_LEASE: Duration = Duration::from_secs(30);

const _: () = {
    // Two renewals may be lost.
    assert!(PRESENCE_LEASE.as_millis() >= 3 * PRESENCE_RENEWAL.as_millis());
};

/// Who is there.
#[derive(Debug, Default)]
pub(super) struct Presence {
    members: BTreeMap<UserId, Present>,
    /// One for each core that has members.
    cores: BTreeMap<usize, Lease>,
}

#[derive(Debug)]
struct Present {
    info: Bytes,
    cores: CoreSet,
    /// Connections on a core beyond the first one there, where there are any.
    further: BTreeMap<usize, u32>,
}

#[derive(Debug)]
struct Lease {
    digest: Digest,
    until: Moment,
}

impl Presence {
    /// A user has come to a core. What others are told of them is what came last.
    pub(super) fn enter(&mut self, core: usize, member: Member, now: Moment) -> Option<PresenceChange> {
        let lease = self.cores.entry(core).or_insert(Lease { digest: Digest::default(), until: now });
        lease.until = now.after(PRESENCE_LEASE);
        let mut is_new = false;
        let present = self.members.entry(member.user.clone()).or_insert_with(|| {
            is_new = true;
            Present { info: Bytes::new(), cores: CoreSet::default(), further: BTreeMap::new() }
        });
        present.info = member.info.clone();
        // It is the first one there, whatever was known before.
        lease.digest.remove(&member.user, present.connections_on(core));
        present.cores.insert(core);
        present.further.remove(&core);
        lease.digest.add(&member.user, 1);
        is_new.then_some(PresenceChange::Joined(member))
    }

    /// A user on a core has so many connections there now; not zero.
    pub(super) fn recount(&mut self, core: usize, user: &UserId, connections: u32) {
        let present = self.members.get_mut(user).filter(|present| present.cores.contains(core));
        let (Some(present), Some(lease)) = (present, self.cores.get_mut(&core)) else { return };
        lease.digest.remove(user, present.connections_on(core));
        match connections.saturating_sub(1) {
            0 => present.further.remove(&core),
            further => present.further.insert(core, further),
        };
        lease.digest.add(user, present.connections_on(core));
    }

    /// A user has gone from a core.
    pub(super) fn leave(&mut self, core: usize, user: &UserId) -> Option<PresenceChange> {
        let present = self.members.get_mut(user)?;
        let connections = present.connections_on(core);
        present.further.remove(&core);
        if present.cores.remove(core)
            && let Some(lease) = self.cores.get_mut(&core)
        {
            lease.digest.remove(user, connections);
            if lease.digest == Digest::default() {
                self.cores.remove(&core);
            }
        }
        if !present.cores.is_empty() {
            return None;
        }
        self.members.remove(user);
        Some(PresenceChange::Left(user.clone()))
    }

    /// A core says which users it has. Answers whether they are those that are known.
    pub(super) fn renew(&mut self, core: usize, digest: Digest, now: Moment) -> bool {
        let Some(lease) = self.cores.get_mut(&core) else { return false };
        lease.until = now.after(PRESENCE_LEASE);
        lease.digest == digest
    }

    /// These users are on the core, and no others.
    pub(super) fn replace(&mut self, core: usize, members: Vec<Attendee>, now: Moment) -> Vec<PresenceChange> {
        let listed: BTreeSet<&UserId> = members.iter().map(|attendee| &attendee.member.user).collect();
        let gone: Vec<_> = self.users_on(core).filter(|user| !listed.contains(user)).cloned().collect();
        let mut changes: Vec<_> = gone.iter().filter_map(|user| self.leave(core, user)).collect();
        for Attendee { member, connections } in members {
            let user = member.user.clone();
            changes.extend(self.enter(core, member, now));
            self.recount(core, &user, connections);
        }
        changes
    }

    /// Members on cores that have said nothing for too long are gone.
    pub(super) fn expire(&mut self, now: Moment) -> Vec<PresenceChange> {
        let silent: Vec<_> = self.cores.iter().filter(|(_, lease)| lease.until <= now).map(|(&core, _)| core).collect();
        silent.into_iter().flat_map(|core| self.replace(core, Vec::new(), now)).collect()
    }

    /// When [`Presence::expire`] may have something to do.
    pub(super) fn deadline(&self) -> Option<Moment> {
        self.cores.values().map(|lease| lease.until).min()
    }

    /// Sorted by user.
    pub(super) fn members(&self) -> impl ExactSizeIterator<Item = Member> {
        self.members.iter().map(|(user, present)| Member { user: user.clone(), info: present.info.clone() })
    }

    /// The same, with their connections on all cores.
    pub(super) fn attendees(&self) -> impl Iterator<Item = Attendee> {
        let connections = self.members.values().map(Present::connections);
        self.members().zip(connections).map(|(member, connections)| Attendee { member, connections })
    }

    /// Of all members.
    pub(super) fn connections(&self) -> u64 {
        self.cores.values().map(|lease| lease.digest.connections()).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    fn users_on(&self, core: usize) -> impl Iterator<Item = &UserId> {
        self.members.iter().filter(move |(_, present)| present.cores.contains(core)).map(|(user, _)| user)
    }
}

impl Present {
    fn connections_on(&self, core: usize) -> u32 {
        let first = u32::from(self.cores.contains(core));
        first + self.further.get(&core).copied().unwrap_or_default()
    }

    fn connections(&self) -> u32 {
        self.cores.len() as u32 + self.further.values().sum::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(user: &str) -> Member {
        Member { user: user.into(), info: Bytes::copy_from_slice(format!("info of {user}").as_bytes()) }
    }

    fn left(user: &str) -> PresenceChange {
        PresenceChange::Left(user.into())
    }

    fn digest(users: &[&str]) -> Digest {
        let mut digest = Digest::default();
        users.iter().for_each(|user| digest.add(user, 1));
        digest
    }

    fn attendees(presence: &Presence) -> Vec<(String, u32)> {
        presence.attendees().map(|one| (one.member.user.to_string(), one.connections)).collect()
    }

    #[test]
    fn connections_are_counted_over_all_cores() {
        let mut presence = Presence::default();
        let (ann, bob) = (UserId::from("ann"), UserId::from("bob"));
        presence.recount(0, &ann, 2);
        assert!(presence.is_empty(), "who has not entered is not there");
        presence.enter(0, member("ann"), Moment(0));
        presence.enter(1, member("ann"), Moment(0));
        presence.enter(1, member("bob"), Moment(0));
        presence.recount(1, &ann, 3);
        presence.recount(0, &bob, 7);
        assert_eq!(attendees(&presence), [("ann".to_owned(), 4), ("bob".to_owned(), 1)]);
        assert_eq!(presence.connections(), 5);
        assert!(presence.renew(1, digest(&["ann", "bob", "ann", "ann"]), Moment(1)));
        presence.recount(1, &ann, 2);
        assert!(!presence.renew(1, digest(&["ann", "bob", "ann", "ann"]), Moment(1)), "something was lost");
        let told = [("ann", 3), ("bob", 2)].map(|(user, connections)| Attendee { member: member(user), connections });
        assert_eq!(presence.replace(1, told.to_vec(), Moment(1)), []);
        assert_eq!(attendees(&presence), [("ann".to_owned(), 4), ("bob".to_owned(), 2)]);
        presence.enter(1, member("bob"), Moment(1));
        assert_eq!((attendees(&presence)[1].1, presence.connections()), (1, 5), "it began anew, and the end was lost");
        assert_eq!((presence.leave(1, &ann), presence.leave(1, &bob)), (None, Some(left("bob"))));
        assert_eq!((attendees(&presence), presence.connections()), (vec![("ann".to_owned(), 1)], 1));
        presence.leave(0, &ann);
        assert!(presence.is_empty() && presence.deadline().is_none());
    }

    #[test]
    fn a_user_is_counted_once_however_many_cores() {
        let mut presence = Presence::default();
        assert_eq!(presence.enter(0, member("ann"), Moment(0)), Some(PresenceChange::Joined(member("ann"))));
        assert_eq!(presence.enter(1, member("ann"), Moment(0)), None);
        assert_eq!(presence.enter(1, member("ann"), Moment(0)), None, "said twice");
        assert_eq!(presence.members().len(), 1);
        assert_eq!(presence.leave(0, &"ann".into()), None);
        assert_eq!(presence.leave(0, &"ann".into()), None, "said twice");
        assert_eq!(presence.leave(1, &"ann".into()), Some(left("ann")));
        assert_eq!(presence.leave(1, &"ann".into()), None);
        assert!(presence.is_empty() && presence.deadline().is_none());
    }

    #[test]
    fn what_was_lost_on_the_way_is_found_and_mended() {
        let mut presence = Presence::default();
        for user in ["ann", "bob"] {
            presence.enter(0, member(user), Moment(0));
        }
        assert!(presence.renew(0, digest(&["bob", "ann"]), Moment(1)));
        assert!(!presence.renew(0, digest(&["bob", "cid"]), Moment(1)));
        assert!(!presence.renew(1, digest(&["bob"]), Moment(1)), "nothing is known of that core");
        let told = ["bob", "cid"].map(|user| Attendee { member: member(user), connections: 1 });
        let changes = presence.replace(0, told.to_vec(), Moment(1));
        assert_eq!(changes, [left("ann"), PresenceChange::Joined(member("cid"))]);
        assert!(presence.renew(0, digest(&["bob", "cid"]), Moment(1)));
    }

    #[test]
    fn a_silent_core_leaves_no_ghosts() {
        let mut presence = Presence::default();
        presence.enter(0, member("ann"), Moment(0));
        presence.enter(1, member("ann"), Moment(500));
        presence.enter(0, member("bob"), Moment(1000));
        assert_eq!(presence.deadline(), Some(Moment(30_500)));
        assert_eq!(presence.expire(Moment(30_499)), []);
        assert_eq!(presence.expire(Moment(30_500)), [], "ann is still on the other core");
        assert!(presence.renew(0, digest(&["ann", "bob"]), Moment(30_500)));
        assert_eq!(presence.expire(Moment(60_500)), [left("ann"), left("bob")]);
        assert!(presence.is_empty() && presence.deadline().is_none());
    }
}
