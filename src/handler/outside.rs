//! What topics say to a thread that is no core.

use crate::topics::{Answer, HomeEvent, Ticket};

/// Hears the answers to what other threads have asked of topics
/// ([`Handle::publish_asking`](crate::server::Handle::publish_asking), [`Handle::read`](crate::server::Handle::read)),
/// and what happens to topics. Given to [`Builder::outside`](crate::server::Builder::outside).
///
/// Called on the threads of cores, in the middle of their work: it must not block, and had best do no more than put
/// what it is told into a channel.
pub trait Outside: Send + Sync + 'static {
    /// The answer to a question with this ticket. One that is lost on the way is never answered: whoever asks sets a
    /// time.
    fn answered(&self, ticket: Ticket, answer: Answer);

    /// A topic was subscribed to by somebody, or by nobody any more, or a member has come or gone. Events of one topic
    /// come in the order in which they happened.
    fn topic_event(&self, event: HomeEvent) {
        let _ = event;
    }
}

/// Hears nothing: what a server has that was given no other.
#[derive(Clone, Copy, Debug)]
pub struct Nobody;

impl Outside for Nobody {
    fn answered(&self, _: Ticket, _: Answer) {}
}
