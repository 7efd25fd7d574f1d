//! How many connections a user has, or an address, counted over all cores.
//!
//! A lock is taken once when a connection comes and once when it goes, never for a message, and only where there is a
//! limit. It guards one look into one of many small tables, so cores hardly ever meet at one. Nothing is remembered of
//! who has no connection, so there are never more entries than connections.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::topics::UserId;

/// The connections of users and addresses, where these are limited. All cores have clones of one.
#[derive(Clone, Debug, Default)]
pub struct Seats(Arc<Tallies>);

/// One connection, counted until this is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    tallies: Arc<Tallies>,
    whose: Whose,
}

/// Who is counted: a user, or an address without the part that one client may choose from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Whose {
    User(UserId),
    Network(IpAddr),
}

/// There are as many as there may be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

#[derive(Debug)]
struct Tallies {
    parts: [Mutex<HashMap<Whose, u32>>; PARTS],
    hasher: RandomState,
}

impl Seats {
    /// One more connection of this user. Where there is no limit none is counted.
    pub(super) fn of_user(&self, user: &UserId, max: Option<NonZeroU32>) -> Result<Option<Box<Seat>>, Full> {
        self.take(max, || Whose::User(user.clone()))
    }

    /// One more connection from this address.
    pub(super) fn of_address(&self, address: IpAddr, max: Option<NonZeroU32>) -> Result<Option<Box<Seat>>, Full> {
        self.take(max, || Whose::Network(network(address)))
    }

    fn take(&self, max: Option<NonZeroU32>, whose: impl FnOnce() -> Whose) -> Result<Option<Box<Seat>>, Full> {
        let Some(max) = max else { return Ok(None) };
        let whose = whose();
        let mut part = self.0.part(&whose);
        let count = part.get(&whose).copied().unwrap_or_default();
        if count >= max.get() {
            return Err(Full);
        }
        part.insert(whose.clone(), count + 1);
        drop(part);
        Ok(Some(Box::new(Seat { tallies: self.0.clone(), whose })))
    }
}

impl Tallies {
    fn part(&self, whose: &Whose) -> MutexGuard<'_, HashMap<Whose, u32>> {
        let part = self.hasher.hash_one(whose) as usize % PARTS;
        // Nothing that is done under the lock panics half way.
        self.parts[part].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Tallies {
    fn default() -> Self {
        Self { parts: std::array::from_fn(|_| Mutex::default()), hasher: RandomState::new() }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut part = self.tallies.part(&self.whose);
        if let Some(count) = part.get_mut(&self.whose) {
            *count -= 1;
            if *count == 0 {
                part.remove(&self.whose);
            }
        }
    }
}

/// Of an IPv6 address the first 64 bits: the rest is the client's own choice.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

const PARTS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(seats: &Seats) -> usize {
        seats.0.parts.iter().map(|part| part.lock().expect("nobody panicked").len()).sum()
    }

    #[test]
    fn there_are_as_many_as_may_be_and_none_is_kept() {
        let seats = Seats::default();
        let max = NonZeroU32::new(2);
        let (ada, bob): (UserId, UserId) = ("ada".into(), "bob".into());
        let first = seats.of_user(&ada, max).expect("room");
        let second = seats.of_user(&ada, max).expect("room");
        assert_eq!(seats.of_user(&ada, max).unwrap_err(), Full);
        let other = seats.of_user(&bob, max).expect("another's");
        assert_eq!(entries(&seats), 2);
        drop(first);
        let third = seats.of_user(&ada, max).expect("room again");
        // After a reload there may be more than the limit now is.
        assert_eq!(seats.of_user(&ada, NonZeroU32::new(1)).unwrap_err(), Full);
        assert!(seats.of_user(&ada, None).expect("no limit").is_none());
        drop((second, third, other));
        assert_eq!(entries(&seats), 0);
    }

    #[test]
    fn an_address_is_counted_by_what_a_client_cannot_choose() {
        let seats = Seats::default();
        let take = |address: &str| seats.of_address(address.parse().expect("an address"), NonZeroU32::new(1));
        let kept = ["192.0.2.1", "192.0.2.2", "2001:db8:0:1::1", "2001:db8:0:2::1"].map(|free| take(free).expect(free));
        for taken in ["192.0.2.1", "::ffff:192.0.2.1", "2001:db8:0:1:ffff::2"] {
            assert_eq!(take(taken).unwrap_err(), Full, "{taken}");
        }
        drop(kept);
        assert_eq!(entries(&seats), 0);
    }

    #[test]
    fn cores_count_together() {
        let seats = Seats::default();
        let ada: UserId = "ada".into();
        let cores: Vec<_> = (0..4)
            .map(|_| {
                let (seats, ada) = (seats.clone(), ada.clone());
                std::thread::spawn(move || -> Vec<_> {
                    (0..100).filter_map(|_| seats.of_user(&ada, NonZeroU32::new(150)).ok()).collect()
                })
            })
            .collect();
        let taken: Vec<_> = cores.into_iter().flat_map(|core| core.join().expect("no panic")).collect();
        assert_eq!(taken.len(), 150);
        drop(taken);
        assert_eq!(entries(&seats), 0);
    }
}
