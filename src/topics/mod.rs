//! Who hears what.

mod interest;
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

pub use interest::{Ended, Interest, SubjectIndex, SubscriberId};
pub use moment::Moment;
pub use name::{NAME_BYTES_MAX, NameError, Topic};
pub use namespace::{Access, HISTORY_MESSAGES_MAX, Namespace, NamespaceError, Namespaces, Rate, SlowConsumer};
pub use pattern::{Pattern, Subject};
pub use placement::{CORE_COUNT_MAX, CoreSet, home_of};
pub use position::{BadPosition, Epoch, Horizon, NotRecovered, Position};
pub use publication::{DataKind, Draft, Publication};
