//! What a back end is told of clients, where one wants to know: who they are, as long as they are there.
//!
//! Without a back end nothing is remembered and nothing is made.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::backend::{Client, Event, EventKind, EventKinds, Observer};
use crate::handler::{Cause, Closed, ConnId, Unanswered};
use crate::topics::{Answer, Draft, Receipt, Subject, Ticket, Topic, UserId};

/// The clients of one core, and who is told of them.
#[derive(Default)]
pub(super) struct Watch {
    kinds: EventKinds,
    observer: Option<Arc<dyn Observer>>,
    /// Whether anybody wants to know who clients are.
    remembers: bool,
    people: HashMap<ConnId, Person>,
    /// Publications that their topics have not accepted yet.
    publishing: HashMap<Ticket, Box<Publishing>>,
}

/// What is remembered of a client.
#[derive(Debug)]
struct Person {
    address: Option<IpAddr>,
    protocol: &'static str,
    user: Option<UserId>,
    is_connected: bool,
}

#[derive(Debug)]
struct Publishing {
    client: Client,
    topic: Topic,
    draft: Draft,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("kinds", &self.kinds).field("people", &self.people).finish_non_exhaustive()
    }
}

impl Watch {
    pub(super) fn set_observer(&mut self, observer: Arc<dyn Observer>) {
        self.kinds = observer.kinds();
        self.observer = Some(observer);
        self.remember();
    }

    /// Somebody will ask for addresses.
    pub(super) fn remember(&mut self) {
        self.remembers = true;
    }

    /// A client's own address, as far as it is known.
    pub(super) fn address(&self, id: ConnId) -> Option<IpAddr> {
        self.people.get(&id).and_then(|person| person.address)
    }

    /// A client is about to be let in.
    pub(super) fn arrived(&mut self, id: ConnId, address: Option<IpAddr>, protocol: &'static str) {
        if self.remembers {
            self.people.insert(id, Person { address, protocol, user: None, is_connected: false });
        }
    }

    /// It may speak and hear from now on.
    pub(super) fn connected(&mut self, id: ConnId, user: Option<&UserId>) {
        let Some(person) = self.people.get_mut(&id).filter(|person| !person.is_connected) else { return };
        person.is_connected = true;
        person.user = user.cloned();
        let (address, protocol) = (person.address, person.protocol);
        self.tell(EventKind::Connected, id, |client| Event::Connected { client, address, protocol });
    }

    /// It is gone.
    pub(super) fn disconnected(&mut self, id: ConnId, closed: &Closed) {
        if !self.remembers {
            return;
        }
        if self.people.get(&id).is_some_and(|person| person.is_connected) {
            let (code, cause) = (closed.code.0, cause_name(closed.cause));
            self.tell(EventKind::Disconnected, id, |client| Event::Disconnected { client, code, cause });
        }
        self.people.remove(&id);
    }

    /// A subscription has begun.
    pub(super) fn subscribed(&self, id: ConnId, subject: &Subject) {
        self.tell(EventKind::Subscribed, id, |client| Event::Subscribed { client, subject: subject.clone() });
    }

    /// A subscription that had begun is over, and the connection is not.
    pub(super) fn unsubscribed(&self, id: ConnId, subject: &Subject) {
        self.tell(EventKind::Unsubscribed, id, |client| Event::Unsubscribed { client, subject: subject.clone() });
    }

    /// Whether publications of clients are to be told, so that their topics must be asked what became of them.
    pub(super) fn wants_publications(&self) -> bool {
        self.kinds.contains(EventKind::Published) || self.kinds.contains(EventKind::Unanswered)
    }

    /// A client publishes this, and the topic will say under this ticket what becomes of it.
    pub(super) fn publishing(&mut self, ticket: Ticket, id: ConnId, topic: &Topic, draft: Draft) {
        let publishing = Publishing { client: self.client(id), topic: topic.clone(), draft };
        self.publishing.insert(ticket, Box::new(publishing));
    }

    /// What became of it. Who is refused is not told of.
    pub(super) fn published(&mut self, ticket: Ticket, answer: &Result<Answer, Unanswered>) {
        if self.publishing.is_empty() {
            return;
        }
        let Some(publishing) = self.publishing.remove(&ticket) else { return };
        let Publishing { client, topic, draft } = *publishing;
        let event = match answer {
            Ok(Answer::Published(Receipt { position, .. })) => {
                Event::Published { client, topic, position: *position, draft }
            }
            Err(Unanswered) => Event::Unanswered { client, topic, draft },
            Ok(_) => return,
        };
        if let Some(observer) = self.observer.as_ref().filter(|_| self.kinds.contains(event.kind())) {
            observer.observe(event);
        }
    }

    fn tell(&self, kind: EventKind, id: ConnId, event: impl FnOnce(Client) -> Event) {
        if let Some(observer) = self.observer.as_ref().filter(|_| self.kinds.contains(kind)) {
            observer.observe(event(self.client(id)));
        }
    }

    fn client(&self, id: ConnId) -> Client {
        Client { connection: id, user: self.people.get(&id).and_then(|person| person.user.clone()) }
    }
}

fn cause_name(cause: Cause) -> &'static str {
    match cause {
        Cause::Peer => "client",
        Cause::Local => "server",
        Cause::Violation(_) => "violation",
        Cause::Idle => "idle",
        Cause::Transport => "transport",
    }
}
