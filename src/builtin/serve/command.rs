//! What back ends want of connections: commands from other threads, cast to one core and answered by it.
//!
//! A core may have a million connections, so a command looks at some of them and says where to go on: whoever sent it
//! sends another, and in between everybody else has a turn.

use std::net::IpAddr;
use std::time::Duration;

use super::{Serve, Session, Speaks, access, raw, sse, v1};
use crate::auth::UnixSeconds;
use crate::handler::{Body, ConnId, Core, Request, Sessions};
use crate::protocol::{CloseCode, MessageKind};
use crate::wire::{ErrorCode, ServerMessage, close};

/// To be cast to one core, with [`Handle::cast`](crate::server::Handle::cast).
pub struct Command {
    /// Which connections.
    pub who: Who,
    /// What is wanted of them.
    pub act: Act,
    /// Connections from this slot on; see [`Outcome::next`]. Begins with zero.
    pub from: u32,
    /// Called once, on the core's thread: it must not block.
    pub answer: Box<dyn Fn(Outcome) + Send + Sync>,
}

/// Which connections a [`Command`] is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// All of the core.
    All,
    /// Those of a user.
    User(Box<str>),
    /// This one, if it is on this core.
    Connection(ConnId),
}

/// What a [`Command`] wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// To be told of at most so many.
    List {
        /// At least one.
        most: usize,
    },
    /// That they leave.
    Disconnect {
        /// For the Close frame.
        code: CloseCode,
        /// For the Close frame; what is longer than 123 bytes is cut.
        reason: Box<str>,
    },
    /// That they hear a topic or pattern no more. They are told, where what they speak has words for it; a connection
    /// that has no subscription left then, and could not make another, is closed.
    Unsubscribe {
        /// As in the subscription.
        subject: Box<str>,
    },
    /// That those with a token may stay for so long from now, whatever it says. With zero they are closed with 4002
    /// within a second, and come back with a newer one.
    Refresh {
        /// Until then.
        expires_in: Duration,
    },
}

/// What a core has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// For [`Act::List`].
    pub listed: Vec<ConnectionInfo>,
    /// Connections that were looked for and found.
    pub found: usize,
    /// Those among them to which something was done, or which are listed.
    pub done: usize,
    /// Where to go on; `None` if that was all.
    pub next: Option<u32>,
}

/// One connection. What is not remembered of it is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// Its name.
    pub id: ConnId,
    /// What it speaks: `raw`, `sse` or `corewire.v1`.
    pub wire: &'static str,
    /// Who it is, by its token.
    pub user: Option<String>,
    /// Where it comes from.
    pub client: Option<IpAddr>,
    /// Topics and patterns that it hears.
    pub subscriptions: usize,
    /// When it was opened.
    pub opened_at: Option<UnixSeconds>,
}

/// Where a connection came from, and when. Remembered of those of which something else must be remembered too.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub(super) address: Option<IpAddr>,
    pub(super) at: UnixSeconds,
}

impl Arrival {
    /// Somebody comes now.
    pub(super) fn now(core: &Core<'_>, request: &Request<'_>) -> Self {
        Self { address: request.client(), at: access::now(core) }
    }
}

impl Serve {
    /// Does what a command wants, and answers it.
    pub(super) fn obey(&mut self, core: &mut Core<'_>, sessions: &mut Sessions<'_, Session>, command: &Command) {
        let end = core.slot_count();
        let slots = match &command.who {
            Who::Connection(id) if id.core() == core.core_index() => id.slot()..id.slot().saturating_add(1),
            Who::Connection(_) => 0..0,
            Who::All | Who::User(_) => command.from..end.min(command.from.saturating_add(SLOTS_PER_COMMAND)),
        };
        let mut outcome = Outcome { next: (slots.end < end).then_some(slots.end), ..Outcome::default() };
        if matches!(command.who, Who::Connection(_)) {
            outcome.next = None;
        }
        for id in core.connections_in(slots) {
            let Some(session) = sessions.get_mut(core, id).filter(|session| command.who.is(id, session)) else {
                continue;
            };
            outcome.found += 1;
            outcome.done += usize::from(self.act(core, id, session, &command.act, &mut outcome.listed));
            if matches!(command.act, Act::List { most } if outcome.listed.len() >= most) {
                outcome.next = (id.slot() + 1 < end).then_some(id.slot() + 1);
                break;
            }
        }
        (command.answer)(outcome);
    }

    /// Answers whether there was anything to do.
    fn act(
        &mut self,
        core: &mut Core<'_>,
        id: ConnId,
        session: &mut Session,
        act: &Act,
        listed: &mut Vec<ConnectionInfo>,
    ) -> bool {
        match act {
            Act::List { .. } => listed.push(info(core, id, session)),
            Act::Disconnect { code, reason } => core.close_conn(id, *code, reason),
            Act::Unsubscribe { subject } => return self.end_subscription(core, id, session, subject),
            Act::Refresh { expires_in } => return self.refresh(core, id, session, *expires_in),
        }
        true
    }

    /// Answers whether there was one.
    fn end_subscription(&mut self, core: &mut Core<'_>, id: ConnId, session: &mut Session, subject: &str) -> bool {
        match &mut session.0 {
            Speaks::V1(client) => self.forbid(core, id, client, subject),
            Speaks::Raw(_) | Speaks::Sse(_) => {
                let mut ended = core.unsubscribe_conn(id, subject);
                let was_awaited = match &mut session.0 {
                    Speaks::Sse(slot) => {
                        let was_awaited =
                            slot.as_mut().is_some_and(|client| self.streams.give_up(core, id, client, subject));
                        slot.take_if(|client| client.is_forgettable());
                        was_awaited
                    }
                    Speaks::Raw(_) | Speaks::V1(_) | Speaks::Surplus => false,
                };
                if ended
                    && !was_awaited
                    && let Ok(subject) = access::subject(subject)
                {
                    self.watch.unsubscribed(id, &subject);
                }
                ended |= was_awaited;
                if ended && core.subscription_count_of(id) == 0 {
                    // It cannot subscribe again, and would wait for nothing.
                    core.close_conn(id, close::DISCONNECTED, DISCONNECTED);
                }
                ended
            }
            Speaks::Surplus => false,
        }
    }

    /// The client is told, and may be waiting for the subscription to begin.
    fn forbid(&mut self, core: &mut Core<'_>, id: ConnId, client: &mut v1::Client, name: &str) -> bool {
        if !core.unsubscribe_conn(id, name) {
            return false;
        }
        self.forget_subscription(id, client, name);
        let reason = "unsubscribed by the back end";
        let message = match client.take_pending(name) {
            Some(pending) => ServerMessage::error(Some(pending.id), ErrorCode::Forbidden, reason),
            None => {
                if let Ok(subject) = access::subject(name) {
                    self.watch.unsubscribed(id, &subject);
                }
                ServerMessage::unsubscribed(name, ErrorCode::Forbidden, reason)
            }
        };
        // A full queue closes the connection by the handler's policy.
        let _ = core.send_to(id, MessageKind::Text, Body::Shared(message.encode().into()));
        true
    }

    fn refresh(&mut self, core: &Core<'_>, id: ConnId, session: &mut Session, expires_in: Duration) -> bool {
        let at = UnixSeconds(access::now(core).0.saturating_add(expires_in.as_secs()));
        match &mut session.0 {
            Speaks::V1(client) => self.expire_at(id, client, at),
            Speaks::Raw(Some(client)) => {
                let before = client.valid_until();
                client.expire_at(at) && self.move_expiry(id, before, at)
            }
            Speaks::Sse(Some(client)) => {
                let before = client.valid_until();
                client.expire_at(at) && self.move_expiry(id, before, at)
            }
            Speaks::Raw(None) | Speaks::Sse(None) | Speaks::Surplus => false,
        }
    }

    /// Always true.
    fn move_expiry(&mut self, id: ConnId, before: Option<UnixSeconds>, at: UnixSeconds) -> bool {
        self.expiries.remove(id, None, before);
        self.expiries.add(id, None, Some(at));
        true
    }
}

impl Who {
    fn is(&self, id: ConnId, session: &Session) -> bool {
        match self {
            Self::All => true,
            Self::User(user) => session.user() == Some(user),
            Self::Connection(wanted) => *wanted == id,
        }
    }
}

fn info(core: &Core<'_>, id: ConnId, session: &Session) -> ConnectionInfo {
    let arrival = match &session.0 {
        Speaks::Raw(client) => client.as_deref().and_then(raw::Client::arrival),
        Speaks::Sse(client) => client.as_deref().map(sse::Client::arrival),
        Speaks::V1(client) => client.arrival(),
        Speaks::Surplus => None,
    };
    ConnectionInfo {
        id,
        wire: match session.0 {
            Speaks::Raw(_) => "raw",
            Speaks::Sse(_) => "sse",
            Speaks::V1(_) | Speaks::Surplus => crate::wire::SUBPROTOCOL,
        },
        user: session.user().map(str::to_owned),
        client: arrival.and_then(|arrival| arrival.address),
        subscriptions: core.subscription_count_of(id),
        opened_at: arrival.map(|arrival| arrival.at),
    }
}

/// What a Close frame says that a back end asked for without giving a reason.
pub const DISCONNECTED: &str = "disconnected by the back end";

/// Slots that one command looks at: well below a millisecond.
const SLOTS_PER_COMMAND: u32 = 4096;
