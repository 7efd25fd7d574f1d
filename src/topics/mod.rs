//! Topics: who hears what, in which order, and what those are told who come back.
//!
//! A topic has a home, one of the cores, chosen by its name ([`home_of`]). The home gives each publication its place,
//! keeps the history and the members, and knows which cores have subscribers. A core knows its own subscribers.
//!
//! ```text
//!   connections of a core                                             topics whose home is a core
//!
//!   subscribe ──►  Local  ── ToHome: Subscribe, Unsubscribe, Enter ──►  Home
//!                    │                                                   │ order, history, presence,
//!   publish ─────────┼────── ToHome: Publish ──────────────────────────► │ cores that have subscribers
//!                    │                                                   │
//!   Outlet ◄─ Local ◄┴────── ToCore: Subscribed, Deliver, Presence ──────┘
//!     │
//!   Backlog: what waits for a connection that reads too slowly
//! ```
//!
//! - [`Topic`], [`Pattern`], [`Namespaces`]: names, wildcards, and how topics behave.
//! - [`Interest`]: the subscriptions of one core, in both directions.
//! - [`Local`]: these, and everything that is under way between them and homes.
//! - [`Home`]: topics at home.
//! - [`ToHome`], [`ToCore`]: what the two say to each other, in order, and possibly lost.
//! - [`Backlog`]: whole frames that may still be replaced or dropped.
//!
//! Knows no sockets, no WebSocket, no JSON, no threads. Time and randomness are arguments.

mod backlog;
mod home;
mod interest;
mod local;
mod message;
mod moment;
mod name;
mod namespace;
mod pattern;
mod pattern_tree;
mod placement;
mod position;
mod publication;

#[cfg(test)]
mod tests;

pub use backlog::{Backlog, Keep, Lost, Overflow, WAITING_BYTES};
pub use home::{Home, HomeEvent, HomeOptions, IDEMPOTENCY_KEY_BYTES_MAX, Outbound, PRESENCE_LEASE};
pub use interest::{Ended, Interest, SubjectIndex, SubscriberId};
pub use local::{AlreadySubscribed, Begun, Local, Outlet, Recovery};
pub use message::{
    Answer, Attendee, Counts, Deliver, Digest, Heard, Member, PRESENCE_RENEWAL, Party, PresenceChange, Publish, Read,
    Receipt, ReceiptId, Refused, Reply, Tally, Ticket, ToCore, ToHome, TopicInfo, UserId, Want, Watch, Watched,
    WatcherId,
};
pub use moment::Moment;
pub use name::{NAME_BYTES_MAX, NameError, Topic};
pub use namespace::{
    Access, HISTORY_MESSAGES_MAX, Namespace, NamespaceError, Namespaces, SlowConsumer, UnknownNamespace,
};
pub use pattern::{Pattern, Subject};
pub use placement::{CORE_COUNT_MAX, CoreSet, home_of};
pub use position::{BadPosition, Epoch, Horizon, NotRecovered, Position};
pub use publication::{DataKind, Draft, Publication};
