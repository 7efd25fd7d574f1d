//! What happens on the server, as far as a back end may want to know.

use std::net::IpAddr;
use std::sync::Arc;

use crate::ids::ConnId;
use crate::topics::{Draft, HomeEvent, Position, Subject, Topic};

/// Somebody who is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// The connection's name.
    pub connection: ConnId,
    /// Who it is; `None` for nobody in particular.
    pub user: Option<Arc<str>>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A client may speak and hear from now on.
    Connected {
        /// Who.
        client: Client,
        /// Its own address, as far as it is known.
        address: Option<IpAddr>,
        /// What it speaks: a subprotocol, or `raw`.
        protocol: &'static str,
    },
    /// A client that was connected is gone, and with it all its subscriptions, which are not told one by one.
    Disconnected {
        /// Who.
        client: Client,
        /// The close code that ended it (RFC 6455 §7.4).
        code: u16,
        /// Who or what ended it, in a word.
        cause: &'static str,
    },
    /// A subscription has begun.
    Subscribed {
        /// Whose.
        client: Client,
        /// To what.
        subject: Subject,
    },
    /// A subscription has ended before its connection.
    Unsubscribed {
        /// Whose.
        client: Client,
        /// To what.
        subject: Subject,
    },
    /// A topic that nobody had subscribed to by its name has a subscriber.
    Occupied(Topic),
    /// The last of them is gone.
    Vacated(Topic),
    /// A topic has accepted what a client published.
    Published {
        /// Who.
        client: Client,
        /// Where.
        topic: Topic,
        /// The publication's place.
        position: Position,
        /// What.
        draft: Draft,
    },
    /// A topic gave no answer in time to what a client published: it may have accepted it, and no
    /// [`Event::Published`] will say so.
    Unanswered {
        /// Who.
        client: Client,
        /// Where.
        topic: Topic,
        /// What.
        draft: Draft,
    },
}

/// An [`Event`] without what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// [`Event::Connected`]
    Connected,
    /// [`Event::Disconnected`]
    Disconnected,
    /// [`Event::Subscribed`]
    Subscribed,
    /// [`Event::Unsubscribed`]
    Unsubscribed,
    /// [`Event::Occupied`]
    Occupied,
    /// [`Event::Vacated`]
    Vacated,
    /// [`Event::Published`]
    Published,
    /// [`Event::Unanswered`]
    Unanswered,
}

/// Some kinds of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventKinds(u8);

/// Is told what happens, on the cores' own threads: it must not block, and every connection of a core waits for it.
pub trait Observer: Send + Sync + 'static {
    /// What it wants to be told; the same for as long as the server runs.
    fn kinds(&self) -> EventKinds;

    /// It has happened. What it did not ask for it may be told all the same.
    fn observe(&self, event: Event);
}

impl Event {
    /// What a topic's home tells, if it is something for back ends.
    pub fn of_topic(event: HomeEvent) -> Option<Self> {
        match event {
            HomeEvent::Occupied(topic) => Some(Self::Occupied(topic)),
            HomeEvent::Vacated(topic) => Some(Self::Vacated(topic)),
            HomeEvent::Presence(..) => None,
        }
    }

    /// Which kind it is of.
    pub fn kind(&self) -> EventKind {
        match self {
            Self::Connected { .. } => EventKind::Connected,
            Self::Disconnected { .. } => EventKind::Disconnected,
            Self::Subscribed { .. } => EventKind::Subscribed,
            Self::Unsubscribed { .. } => EventKind::Unsubscribed,
            Self::Occupied(_) => EventKind::Occupied,
            Self::Vacated(_) => EventKind::Vacated,
            Self::Published { .. } => EventKind::Published,
            Self::Unanswered { .. } => EventKind::Unanswered,
        }
    }
}

impl EventKind {
    /// All there are, in the order in which documents list them.
    pub const ALL: [Self; 8] = [
        Self::Connected,
        Self::Disconnected,
        Self::Subscribed,
        Self::Unsubscribed,
        Self::Occupied,
        Self::Vacated,
        Self::Published,
        Self::Unanswered,
    ];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Disconnected => "disconnected",
            Self::Subscribed => "subscribed",
            Self::Unsubscribed => "unsubscribed",
            Self::Occupied => "occupied",
            Self::Vacated => "vacated",
            Self::Published => "published",
            Self::Unanswered => "unanswered",
        }
    }

    /// The kind of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl EventKinds {
    /// All of them.
    pub fn all() -> Self {
        EventKind::ALL.into_iter().collect()
    }

    /// Whether it is one of these.
    pub fn contains(self, kind: EventKind) -> bool {
        self.0 & kind.bit() != 0
    }

    /// Those that are in it.
    pub fn iter(self) -> impl Iterator<Item = EventKind> {
        EventKind::ALL.into_iter().filter(move |kind| self.contains(*kind))
    }
}

impl FromIterator<EventKind> for EventKinds {
    fn from_iter<T: IntoIterator<Item = EventKind>>(kinds: T) -> Self {
        Self(kinds.into_iter().fold(0, |bits, kind| bits | kind.bit()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_means_one_kind() {
        for kind in EventKind::ALL {
            assert_eq!(EventKind::from_name(kind.name()), Some(kind));
        }
        assert_eq!(EventKind::from_name("Connected"), None);
    }

    #[test]
    fn a_set_has_what_was_put_in() {
        let some: EventKinds = [EventKind::Vacated, EventKind::Connected, EventKind::Vacated].into_iter().collect();
        assert!(some.iter().eq([EventKind::Connected, EventKind::Vacated]));
        assert!(EventKinds::all().iter().eq(EventKind::ALL));
        assert!(EventKinds::default().iter().next().is_none());
    }
}
