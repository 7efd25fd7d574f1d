//! What one subscriber has subscribed to.

use super::paged::{grow_for_one, shrink};

/// One subscription, as its subscriber knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seat {
    /// Index of the topic.
    pub(super) topic: u32,
    /// Index within the topic's members; [`WAITING`] while it is not one of them.
    pub(super) place: u32,
}

/// The place of a subscription that nothing is delivered to yet.
pub(super) const WAITING: u32 = u32::MAX;

/// All subscriptions of one subscriber, sorted by topic. Most have none or one.
#[derive(Debug, Default)]
pub(super) enum Seats {
    #[default]
    None,
    One(Seat),
    /// At least two. Behind a box, so that those with none or one take 16 bytes.
    #[expect(clippy::box_collection, reason = "see above")]
    Many(Box<Vec<Seat>>),
}

impl Seats {
    pub(super) fn as_slice(&self) -> &[Seat] {
        match self {
            Self::None => &[],
            Self::One(seat) => std::slice::from_ref(seat),
            Self::Many(seats) => seats,
        }
    }

    pub(super) fn find(&self, topic: u32) -> Option<Seat> {
        let seats = self.as_slice();
        seats.binary_search_by_key(&topic, |seat| seat.topic).ok().map(|index| seats[index])
    }

    /// Its place among the topic's members has changed.
    ///
    /// # Panics
    ///
    /// If there is no such subscription.
    pub(super) fn set_place(&mut self, topic: u32, place: u32) {
        let seats = match self {
            Self::None => &mut [],
            Self::One(seat) => std::slice::from_mut(seat),
            Self::Many(seats) => &mut seats[..],
        };
        let index = seats.binary_search_by_key(&topic, |seat| seat.topic).expect("a member has a seat");
        seats[index].place = place;
    }

    /// Adds one that is not there.
    pub(super) fn insert(&mut self, seat: Seat) {
        match self {
            Self::None => *self = Self::One(seat),
            Self::One(first) => {
                let mut both = vec![*first, seat];
                both.sort_unstable_by_key(|seat| seat.topic);
                *self = Self::Many(Box::new(both));
            }
            Self::Many(seats) => {
                grow_for_one(seats);
                let index = seats.partition_point(|other| other.topic < seat.topic);
                seats.insert(index, seat);
            }
        }
    }

    pub(super) fn remove(&mut self, topic: u32) -> Option<Seat> {
        let found = self.find(topic)?;
        match self {
            Self::None => {}
            Self::One(_) => *self = Self::None,
            Self::Many(seats) => {
                seats.retain(|seat| seat.topic != topic);
                shrink(seats);
                if let [last] = seats[..] {
                    *self = Self::One(last);
                }
            }
        }
        Some(found)
    }
}

const _: () = {
    // There is one for each connection, whether it subscribes to anything or not.
    assert!(size_of::<Seats>() <= 16);
};
