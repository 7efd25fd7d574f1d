//! Clients that wait for a back end's verdict. Meanwhile nothing that they say is heard: it waits, in its order.

use std::fmt;
use std::sync::Arc;

use super::access::{self, Failure, User};
use super::seats::{Full, Seat};
use super::url::{self, Admitted, Wish};
use super::v1::{Client, Outcome, Standing, Wanted, finish, tell};
use super::{Serve, Session};
use crate::auth::{Identity, Patterns, TopicGrant, UnixSeconds};
use crate::backend::{Allowed, Decider, Denied, Overloaded, Question, Verdict, WhoAsks};
use crate::handler::{Conn, Request, Upgrade};
use crate::http::Response;
use crate::protocol::close::CloseCode;
use crate::wire::{self, ErrorCode, SUBPROTOCOL, Token, close};

/// Whom to ask, if anybody.
#[derive(Clone, Default)]
pub(super) struct Asks(pub(super) Option<Arc<dyn Decider>>);

/// What a client of `corewire.v1` waits for.
#[derive(Debug)]
pub(super) enum Undecided {
    Connect { id: u32 },
    Subscribe { id: u32, name: String, recover: Option<wire::Position>, presence: bool },
}

impl fmt::Debug for Asks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.anybody() { "Asks(..)" } else { "Asks(nobody)" })
    }
}

impl Asks {
    pub(super) fn anybody(&self) -> bool {
        self.0.is_some()
    }

    fn ask(&self, question: Question, asks: WhoAsks) -> Result<(), Overloaded> {
        self.0.as_ref().ok_or(Overloaded)?.decide(question, asks)
    }
}

impl Serve {
    // ---- by URL ------------------------------------------------------------------------------------------------

    /// A client whose URL says everything; `protocol` is what it speaks.
    pub(super) fn ask_about_url(
        &self,
        conn: &Conn<'_>,
        request: &Request<'_>,
        protocol: &'static str,
    ) -> Upgrade<Session> {
        let wish = match Wish::read(conn.namespaces(), request.head().query_params()) {
            Ok(wish) => wish,
            Err(response) => return Upgrade::Refuse(response),
        };
        let question = Question::Connect {
            connection: conn.id(),
            address: request.client(),
            protocol,
            token: wish.token.as_deref().map(Box::from),
            topics: wish.subjects.iter().map(|subject| access::name_of(subject).into()).collect(),
        };
        match self.asks.ask(question, WhoAsks::Upgrade(conn.defer())) {
            Ok(()) => Upgrade::Defer,
            Err(Overloaded) => Upgrade::Refuse(refuse_url(Denied::Unavailable)),
        }
    }

    /// The verdict about it.
    pub(super) fn url_decided(
        &mut self,
        conn: &Conn<'_>,
        request: &Request<'_>,
        verdict: Verdict,
    ) -> Result<(Admitted, Option<Box<Seat>>), Response> {
        let wish = Wish::read(conn.namespaces(), request.head().query_params())?;
        let allowed = verdict.map_err(refuse_url)?;
        let mut user = identity(allowed, access::now(conn)).map(User::new);
        let valid_until = user.as_ref().and_then(|user| user.valid_until);
        let subjects = wish.permitted(conn, user.as_ref())?;
        if let Some(user) = &mut user {
            user.sit_down(&self.admission).map_err(|Full| url::too_many("This user has"))?;
        }
        // Who waits for a verdict has no seat yet.
        let seat = self.admission.seat_at(request.client()).map_err(|Full| url::too_many("Your address has"))?;
        Ok((Admitted { subjects, user, valid_until }, seat))
    }

    // ---- corewire.v1 -------------------------------------------------------------------------------------------

    pub(super) fn ask_to_connect<'a>(
        &mut self,
        conn: &mut Conn<'_>,
        client: &mut Client,
        id: u32,
        token: Option<&Token<'_>>,
    ) -> Outcome<'a> {
        let question = Question::Connect {
            connection: conn.id(),
            address: self.watch.address(conn.id()),
            protocol: SUBPROTOCOL,
            token: token.map(|Token(token)| token.as_ref().into()),
            topics: Vec::new(),
        };
        self.ask(conn, client, question, Undecided::Connect { id })
    }

    pub(super) fn ask_to_subscribe<'a>(
        &mut self,
        conn: &mut Conn<'_>,
        client: &mut Client,
        wanted: &Wanted<'_>,
    ) -> Outcome<'a> {
        let Wanted { id, name, recover, presence, .. } = *wanted;
        let question = Question::Subscribe {
            connection: conn.id(),
            user: client.user().map(|user| user.name().into()),
            topic: name.into(),
            token: wanted.token.as_ref().map(|Token(token)| token.as_ref().into()),
        };
        self.ask(conn, client, question, Undecided::Subscribe { id, name: name.to_owned(), recover, presence })
    }

    fn ask<'a>(
        &mut self,
        conn: &mut Conn<'_>,
        client: &mut Client,
        question: Question,
        undecided: Undecided,
    ) -> Outcome<'a> {
        let asked = self.asks.ask(question, WhoAsks::Connection(conn.handle()));
        asked.map_err(|Overloaded| Failure::from(Denied::Unavailable))?;
        conn.pause();
        // The verdict comes in bounded time, which need not be that of `connect`.
        self.unconnected.remove(conn.id());
        client.undecided = Some(Box::new(undecided));
        Ok(None)
    }

    /// The verdict about what a client asked last.
    pub(super) fn decided(&mut self, conn: &mut Conn<'_>, client: &mut Client, verdict: Verdict) {
        let Some(undecided) = client.undecided.take() else { return };
        conn.resume();
        let is_first = !client.is_connected();
        let close_with = match &verdict {
            Err(Denied::Refused { code: Some(code), reason }) => Some((CloseCode(*code), reason.clone())),
            Ok(_) | Err(_) => None,
        };
        let (id, outcome) = match *undecided {
            Undecided::Connect { id } => (id, self.connect_decided(conn, client, id, verdict)),
            Undecided::Subscribe { id, name, recover, presence } => {
                let wanted = Wanted { id, name: &name, recover, token: None, presence, granted: None };
                (id, self.subscribe_decided(conn, client, wanted, verdict))
            }
        };
        match close_with {
            Some((code, reason)) => {
                outcome.err().into_iter().for_each(|failure| tell(conn, &failure.answer(Some(id))));
                conn.close(code, &reason);
            }
            None => finish(conn, Some(id), is_first, outcome),
        }
        if !client.is_connected() {
            self.unconnected.add(conn.id());
        }
    }

    fn connect_decided<'a>(
        &mut self,
        conn: &mut Conn<'_>,
        client: &mut Client,
        id: u32,
        verdict: Verdict,
    ) -> Outcome<'a> {
        let now = access::now(conn);
        match (&mut client.standing, identity(verdict?, now)) {
            (Standing::Unconnected | Standing::Anonymous, None) => client.standing = Standing::Anonymous,
            (Standing::Unconnected | Standing::Anonymous, Some(identity)) => {
                let mut user = User::new(identity);
                if user.sit_down(&self.admission).is_err() {
                    conn.close(close::TOO_MANY_CONNECTIONS, close::reason(close::TOO_MANY_CONNECTIONS));
                    return Ok(None);
                }
                self.expiries.add(conn.id(), None, user.valid_until);
                client.standing = Standing::Known(Box::new(user));
            }
            (Standing::Known(user), Some(identity)) if *identity.user == *user.name() => {
                self.renew(conn, client, identity);
            }
            (Standing::Known(_), Some(_) | None) => {
                let message = "the back end says that this is somebody else now: make another connection";
                return Err(Failure::new(ErrorCode::TokenInvalid, message));
            }
        }
        Ok(Some(self.welcome(conn, client, id, now)))
    }

    fn subscribe_decided<'a>(
        &mut self,
        conn: &mut Conn<'_>,
        client: &mut Client,
        wanted: Wanted<'_>,
        verdict: Verdict,
    ) -> Outcome<'a> {
        let Allowed { info, expires_in, .. } = verdict?;
        let valid_until = expires_in.map(|span| after(access::now(conn), span.as_secs()));
        self.subscribe(conn, client, Wanted { granted: Some(TopicGrant { info, valid_until }), ..wanted })
    }
}

impl From<Denied> for Failure {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Refused { reason, .. } if reason.is_empty() => {
                Self::new(ErrorCode::Forbidden, "the back end does not allow it")
            }
            Denied::Refused { reason, .. } => Self::new(ErrorCode::Forbidden, String::from(reason)),
            Denied::Unavailable => {
                Self::new(ErrorCode::Unavailable, "the back end that decides about this gave no answer")
            }
        }
    }
}

fn refuse_url(denied: Denied) -> Response {
    let status = match denied {
        Denied::Refused { .. } => 403,
        Denied::Unavailable => 503,
    };
    let message = Failure::from(denied).message;
    Response::text(status, format!("Not subscribed: {message}.\n"))
}

/// Somebody, if the back end names him.
fn identity(allowed: Allowed, now: UnixSeconds) -> Option<Identity> {
    let Allowed { user, info, expires_in, subscribe, publish } = allowed;
    // What cannot be understood grants nothing.
    let patterns = |names| Patterns::new(names).unwrap_or_default();
    Some(Identity {
        user: user?,
        info,
        subscribe: patterns(subscribe),
        publish: patterns(publish),
        valid_until: expires_in.map(|span| after(now, span.as_secs())),
    })
}

fn after(now: UnixSeconds, seconds: u64) -> UnixSeconds {
    UnixSeconds(now.0.saturating_add(seconds))
}
