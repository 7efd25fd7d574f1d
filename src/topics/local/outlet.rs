//! What a core's topics want of their surroundings.

use super::super::interest::SubscriberId;
use super::super::message::{Answer, Member, PresenceChange, Refused, Tally, Ticket, ToHome};
use super::super::name::Topic;
use super::super::pattern::Subject;
use super::super::position::{Epoch, Position};
use super::super::publication::Publication;
use super::asking::Recovery;

/// Connections and the way to other cores, as [`Local`](super::Local) sees them.
///
/// None of these may call back into it. A connection that is to be closed for what is told here is closed later.
pub trait Outlet {
    /// Carries a message to a core, which may be this one. May lose it, but not change the order.
    fn send(&mut self, core: usize, message: ToHome);

    /// Queues a publication to each of these: it can be encoded once for all. Answers what became of it, but for the
    /// number of subscribers.
    fn deliver(&mut self, topic: &Topic, epoch: Epoch, publication: &Publication, to: &[SubscriberId]) -> Tally;

    /// A subscription has begun: what is delivered from now on is in order and without a gap.
    fn subscribed(&mut self, to: SubscriberId, subject: &Subject, begun: &Begun<'_>);

    /// A subscription was refused, and has ended.
    fn refused(&mut self, to: SubscriberId, topic: &Topic, refused: Refused);

    /// Publications were lost that cannot be recovered: these have missed everything between what was delivered last
    /// and this position, and hear again what comes after it.
    fn gap(&mut self, topic: &Topic, position: Position, to: &[SubscriberId]);

    /// A member has come or gone.
    fn presence(&mut self, topic: &Topic, change: &PresenceChange, to: &[SubscriberId]);

    /// Some news of members was lost: these are all of them now.
    fn members(&mut self, topic: &Topic, members: &[Member], to: &[SubscriberId]);

    /// The answer to something that was published or asked with this ticket.
    fn answer(&mut self, ticket: Ticket, answer: Answer);
}

/// How a subscription begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun<'a> {
    /// Where the topic stands, after `publications`. `None` for a pattern.
    pub position: Option<Position>,
    /// Whether what was missed is told.
    pub recovery: Recovery,
    /// What was asked for of the past, oldest first.
    pub publications: &'a [Publication],
}
