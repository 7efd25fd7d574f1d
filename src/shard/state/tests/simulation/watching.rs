//! What an epoll set knows of one socket, edge-triggered: it tells of a socket once for everything that has happened to it,
//! and again only when something else happens, or when it is asked to look anew (epoll(7), "Level-triggered and
//! edge-triggered").

use super::link::{End, Link};

/// As in the driver: what the set watches a socket for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Watched {
    #[default]
    Nothing,
    For(Interest),
    /// Something was left in it, which the set does not report again by itself.
    Stale,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Interest {
    pub(super) input: bool,
    pub(super) output: bool,
}

/// What the set tells of a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ready {
    pub(super) input: bool,
    pub(super) output: bool,
    /// Told whether asked for or not.
    pub(super) ended: bool,
    pub(super) broken: bool,
    /// The client sends no more.
    pub(super) finished: bool,
}

/// One entry of the set, and what the driver remembers of it.
#[derive(Debug, Default)]
pub(super) struct Watch {
    watched: Watched,
    /// What the kernel watches for; the driver's own account may be stale.
    interest: Interest,
    /// It is on the list of what is to be told.
    is_listed: bool,
    /// How many of the link's edges have been told, or were there before it was watched.
    arrivals: u64,
    vacancies: u64,
}

impl Watch {
    /// `Shard::set_interest`: adds or modifies, but only if it is another.
    pub(super) fn set(&mut self, interest: Interest, link: &Link) {
        if self.watched != Watched::For(interest) {
            *self = Self { watched: Watched::For(interest), interest, ..Self::default() };
            // Both look at the socket.
            self.note_edges(link);
            self.is_listed = self.events(link) != Ready::default();
        }
    }

    /// The first half of `Shard::watch_anew`: whether the second, another look, follows.
    pub(super) fn make_stale(&mut self) -> bool {
        let is_watched = self.watched != Watched::Nothing;
        if is_watched {
            self.watched = Watched::Stale;
        }
        is_watched
    }

    /// Whether the driver has the set watch for `interest`.
    pub(super) fn is_for(&self, interest: Interest) -> bool {
        self.watched == Watched::For(interest)
    }

    /// Whether the driver has nothing of it in the set.
    pub(super) fn is_for_nothing(&self) -> bool {
        self.watched == Watched::Nothing
    }

    /// `Shard::unwatch`.
    pub(super) fn unwatch(&mut self) {
        *self = Self::default();
    }

    /// Whether the set would tell of it now.
    pub(super) fn is_ready(&self, link: &Link) -> bool {
        let has_edge = self.is_listed
            || (link.arrivals != self.arrivals && (self.interest.input || link.up_end != End::Open))
            || (link.vacancies != self.vacancies && self.interest.output);
        self.watched != Watched::Nothing && has_edge && self.events(link) != Ready::default()
    }

    /// Tells of it, once.
    pub(super) fn report(&mut self, link: &Link) -> Ready {
        self.is_listed = false;
        self.note_edges(link);
        self.events(link)
    }

    fn note_edges(&mut self, link: &Link) {
        self.arrivals = link.arrivals;
        self.vacancies = link.vacancies;
    }

    /// What holds at this moment and is watched for.
    fn events(&self, link: &Link) -> Ready {
        let broken = link.up_end == End::Reset;
        let has_hung_up = link.up_end == End::Fin && link.down_end == End::Fin;
        Ready {
            input: self.interest.input && link.is_readable(),
            output: self.interest.output && (link.room() > 0 || broken),
            ended: broken || has_hung_up,
            broken,
            finished: self.interest.input && link.up_end != End::Open,
        }
    }
}
