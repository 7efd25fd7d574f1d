//! `corewire serve`: topics for clients in any language, and a page to try it. `docs/WIRE.md` is what it speaks.
//!
//! Knows no shards and no sockets. Who may connect is in [`admission`], who may do what in [`access`]; what clients say,
//! and hear, in [`url`], [`raw`], [`sse`] and [`v1`]; what a back end is asked in [`decide`], and told in [`watch`].

mod access;
mod admission;
mod budget;
mod command;
mod decide;
mod expiry;
mod raw;
mod seats;
mod sse;
mod unconnected;
mod url;
mod v1;
mod watch;
mod words;

use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::backend::{Decider, Denied, Observer, Verdict};
use crate::handler::{
    Accept, Closed, Conn, ConnId, Core, Delivery, Handler, Overflow, Request, Sessions, TopicNews, Unanswered, Upgrade,
    Wire,
};
use crate::http::Response;
use crate::protocol::close::CloseCode;
use crate::protocol::{Message, MessageKind};
use crate::topics::{Access, Answer, Begun, Namespace, Namespaces, Refused, Subject, Ticket, Topic};
use crate::wire::{ErrorCode, SUBPROTOCOL, close};
use access::User;
pub use admission::Admission;
use command::Arrival;
pub use command::{Act, Command, ConnectionInfo, DISCONNECTED, Outcome, Who};
use decide::Asks;
use expiry::Expiries;
use seats::Full;
pub use seats::Seats;
use unconnected::{CONNECT_CHECK, Unconnected};
use watch::Watch;
use words::Asked;

/// Topics over raw WebSockets, `corewire.v1` and Server-Sent Events.
#[derive(Debug)]
pub struct Serve {
    /// The page at `/`.
    page: String,
    admission: Arc<Admission>,
    expiries: Expiries,
    asked: HashMap<Ticket, Asked>,
    /// Those of `corewire.v1` that have not said `connect` yet, in the order in which they came.
    unconnected: Unconnected,
    /// Subscriptions of `corewire.v1` that want to be told of joins and leaves.
    listeners: HashSet<(ConnId, Topic)>,
    streams: sse::Streams,
    asks: Asks,
    watch: Watch,
}

/// What is remembered of a connection.
#[derive(Debug)]
pub struct Session(Speaks);

#[derive(Debug)]
enum Speaks {
    /// Nothing: it gets bare data. Of most there is nothing to remember.
    Raw(Option<Box<raw::Client>>),
    /// Nothing: it gets Server-Sent Events. Of most there is nothing to remember once all that it asked for has begun.
    Sse(Option<Box<sse::Client>>),
    /// `corewire.v1`.
    V1(Box<v1::Client>),
    /// Nothing more: its address has too many connections. It is closed as soon as it is open, so that it can be told.
    Surplus,
}

// Everybody has one.
const _: () = assert!(size_of::<Session>() <= 16);

impl Session {
    /// The id of its user, if it has one: after a `connect` with a token, or with a token in its URL.
    pub fn user(&self) -> Option<&str> {
        let user = match &self.0 {
            Speaks::Raw(client) => client.as_deref().and_then(raw::Client::user),
            Speaks::Sse(client) => client.as_deref().and_then(sse::Client::user),
            Speaks::V1(client) => client.user(),
            Speaks::Surplus => None,
        };
        user.map(User::name)
    }
}

/// What raw mode and SSE are called where they stand beside subprotocols.
const RAW_NAME: &str = "raw";
const SSE_NAME: &str = "sse";
const SSE_PATH: &str = "/sse";
const RAW: Wire = Wire(0);
const V1: Wire = Wire(1);

impl Serve {
    /// The namespaces that `corewire serve` begins with: one, where anyone may subscribe, and clients publish only if
    /// `demo` is set.
    pub fn namespaces(demo: bool) -> Namespaces {
        let publish = if demo { Access::Public } else { Access::Nobody };
        Namespaces::new(Namespace { publish, ..Namespace::default() }, []).expect("one without a name is no bad one")
    }

    /// With a page for servers where clients may publish in the default namespace, or may not.
    pub fn new(demo: bool) -> Self {
        let page = PAGE.replace("MAY_PUBLISH", if demo { "true" } else { "false" });
        Self {
            page,
            admission: Arc::default(),
            expiries: Expiries::default(),
            asked: HashMap::new(),
            unconnected: Unconnected::default(),
            listeners: HashSet::new(),
            streams: sse::Streams::default(),
            asks: Asks::default(),
            watch: Watch::default(),
        }
    }

    /// Who may connect. Default: everybody, without a token.
    #[must_use]
    pub fn admission(mut self, admission: Arc<Admission>) -> Self {
        self.admission = admission;
        self
    }

    /// Who is told what clients do. Default: nobody.
    #[must_use]
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.watch.set_observer(observer);
        self
    }

    /// Who decides about connections, and about subscriptions that neither a namespace nor an earlier verdict allows.
    /// Tokens of connections are then his to read. Default: nobody; namespaces and [`Serve::admission`] say all.
    #[must_use]
    pub fn decider(mut self, decider: Arc<dyn Decider>) -> Self {
        self.asks = Asks(Some(decider));
        self.watch.remember();
        self
    }

    fn accept_raw(&mut self, conn: &Conn<'_>, request: &Request<'_>, client: raw::Client) -> Upgrade<Session> {
        self.watch.arrived(conn.id(), request.client(), RAW_NAME);
        Upgrade::Accept(Accept::new(Session(Speaks::Raw(Some(Box::new(client))))).wire(RAW))
    }

    fn accept_sse(&mut self, conn: &Conn<'_>, request: &Request<'_>, client: sse::Client) -> Upgrade<Session> {
        self.watch.arrived(conn.id(), request.client(), SSE_NAME);
        let wire = client.wire();
        Upgrade::Accept(Accept::new(Session(Speaks::Sse(Some(Box::new(client))))).wire(wire))
    }
}

impl Handler for Serve {
    type Session = Session;

    fn upgrade(&mut self, conn: &mut Conn<'_>, request: &Request<'_>) -> Upgrade<Session> {
        if request.path() != "/ws" {
            return Upgrade::Refuse(Response::text(404, NOT_HERE));
        }
        let seat = self.admission.seat_at(request.client());
        let arrival = Arrival::now(conn, request);
        if request.subprotocols().any(|name| name == SUBPROTOCOL) {
            let speaks = match seat {
                Ok(seat) => {
                    self.watch.arrived(conn.id(), request.client(), SUBPROTOCOL);
                    Speaks::V1(Box::new(v1::Client::new(arrival, seat)))
                }
                Err(Full) => Speaks::Surplus,
            };
            return Upgrade::Accept(Accept::new(Session(speaks)).wire(V1).subprotocol(SUBPROTOCOL));
        }
        let Ok(seat) = seat else { return Upgrade::Refuse(url::too_many("Your address has")) };
        if self.asks.anybody() {
            return self.ask_about_url(conn, request, RAW_NAME);
        }
        match self.admission.admit_unasked(conn, request.head().query_params()) {
            Ok(admitted) => self.accept_raw(conn, request, raw::Client::new(arrival, admitted, seat)),
            Err(response) => Upgrade::Refuse(response),
        }
    }

    fn upgrade_deferred(
        &mut self,
        conn: &mut Conn<'_>,
        request: &Request<'_>,
        answer: Box<dyn Any + Send>,
    ) -> Upgrade<Session> {
        let verdict = answer.downcast::<Verdict>().map_or(Err(Denied::Unavailable), |verdict| *verdict);
        let arrival = Arrival::now(conn, request);
        match self.url_decided(conn, request, verdict) {
            Ok((admitted, seat)) if request.path() == SSE_PATH => {
                self.accept_sse(conn, request, sse::Client::new(arrival, admitted, seat, request))
            }
            Ok((admitted, seat)) => self.accept_raw(conn, request, raw::Client::new(arrival, admitted, seat)),
            Err(response) => Upgrade::Refuse(response),
        }
    }

    fn stream(&mut self, conn: &mut Conn<'_>, request: &Request<'_>) -> Option<Upgrade<Session>> {
        if request.path() != SSE_PATH {
            return None;
        }
        let Ok(seat) = self.admission.seat_at(request.client()) else {
            return Some(Upgrade::Refuse(url::too_many("Your address has")));
        };
        if self.asks.anybody() {
            return Some(self.ask_about_url(conn, request, SSE_NAME));
        }
        Some(match self.admission.admit_unasked(conn, request.head().query_params()) {
            Ok(admitted) => {
                let client = sse::Client::new(Arrival::now(conn, request), admitted, seat, request);
                self.accept_sse(conn, request, client)
            }
            Err(response) => Upgrade::Refuse(response),
        })
    }

    fn open(&mut self, conn: &mut Conn<'_>, session: &mut Session) {
        match &mut session.0 {
            Speaks::Raw(client) => {
                let user = client.as_deref().and_then(raw::Client::user);
                self.watch.connected(conn.id(), user.map(|user| &user.member.user));
                if let Some(client) = client {
                    client.open(conn);
                    self.expiries.add(conn.id(), None, client.valid_until());
                }
                client.take_if(|client| client.is_forgettable());
            }
            Speaks::Sse(client) => {
                let user = client.as_deref().and_then(sse::Client::user);
                self.watch.connected(conn.id(), user.map(|user| &user.member.user));
                if let Some(client) = client {
                    self.streams.open(conn, client);
                    self.expiries.add(conn.id(), None, client.valid_until());
                }
                client.take_if(|client| client.is_forgettable());
            }
            Speaks::V1(_) => self.unconnected.add(conn.id()),
            Speaks::Surplus => conn.close(close::TOO_MANY_CONNECTIONS, close::reason(close::TOO_MANY_CONNECTIONS)),
        }
    }

    fn message(&mut self, conn: &mut Conn<'_>, session: &mut Session, message: Message<'_>) {
        let Some(text) = message.text() else {
            return conn.close(CloseCode::UNSUPPORTED, "only text is understood");
        };
        match &mut session.0 {
            Speaks::Raw(client) => {
                let rate = self.admission.message_rate;
                if let Some(ticket) = raw::publish(conn, &mut self.watch, client, rate, text) {
                    self.asked.insert(ticket, Asked::Raw { to: conn.id() });
                }
            }
            Speaks::Sse(_) => {}
            Speaks::V1(client) => self.hear(conn, client, text),
            Speaks::Surplus => {}
        }
    }

    fn encode(&mut self, wire: Wire, delivery: &Delivery<'_>) -> Option<(MessageKind, Bytes)> {
        match wire {
            V1 => words::encode(delivery),
            sse::ONE | sse::SEVERAL => sse::encode(wire, delivery),
            _ => Some(raw::encode(delivery)),
        }
    }

    fn preface(&mut self, wire: Wire, to: ConnId, delivery: &Delivery<'_>, out: &mut Vec<u8>) {
        if wire == sse::SEVERAL {
            self.streams.preface(to, delivery, out);
        }
    }

    fn subscribed(&mut self, conn: &mut Conn<'_>, session: &mut Session, subject: &Subject, begun: &Begun<'_>) {
        self.watch.subscribed(conn.id(), subject);
        match &mut session.0 {
            Speaks::Raw(_) => {}
            Speaks::Sse(slot) => {
                if let Some(client) = slot {
                    self.streams.subscribed(conn, client, subject, begun);
                }
                slot.take_if(|client| client.is_forgettable());
            }
            Speaks::V1(client) => client.subscribed(conn, subject, begun),
            Speaks::Surplus => {}
        }
    }

    fn not_subscribed(&mut self, conn: &mut Conn<'_>, session: &mut Session, topic: &Topic, refused: Refused) {
        match &mut session.0 {
            Speaks::Raw(_) | Speaks::Sse(_) => {
                conn.close(CloseCode::TRY_AGAIN_LATER, "the topic cannot be subscribed to now")
            }
            Speaks::V1(client) => client.not_subscribed(conn, topic, refused),
            Speaks::Surplus => {}
        }
    }

    fn topic_news(&mut self, core: &mut Core<'_>, topic: &Topic, news: TopicNews<'_>, to: &[ConnId]) {
        if let TopicNews::Gap(position) = news {
            self.streams.tell_gap(core, topic, words::to_wire(position), to);
        }
        self.tell_news(core, topic, news, to);
    }

    fn answered(&mut self, core: &mut Core<'_>, ticket: Ticket, answer: Result<Answer, Unanswered>) {
        self.watch.published(ticket, &answer);
        if let Some(asked) = self.asked.remove(&ticket) {
            asked.tell(core, answer);
        }
    }

    fn close(&mut self, _: &mut Core<'_>, id: ConnId, session: Session, closed: &Closed) {
        self.watch.disconnected(id, closed);
        match session.0 {
            Speaks::Raw(client) => {
                let valid_until = client.and_then(|client| client.valid_until());
                self.expiries.remove(id, None, valid_until);
            }
            Speaks::Sse(client) => {
                let valid_until = client.and_then(|client| client.valid_until());
                self.expiries.remove(id, None, valid_until);
                self.streams.remove(id);
            }
            Speaks::V1(client) => self.forget(id, &client),
            Speaks::Surplus => {}
        }
    }

    fn cast(&mut self, _: &mut Core<'_>, message: &(dyn Any + Send + Sync)) {
        if let Some(admission) = message.downcast_ref::<Admission>() {
            self.admission = Arc::new(admission.clone());
        }
    }

    fn told(&mut self, conn: &mut Conn<'_>, session: &mut Session, message: &(dyn Any + Send + Sync)) {
        if let (Some(verdict), Speaks::V1(client)) = (message.downcast_ref::<Verdict>(), &mut session.0) {
            self.decided(conn, client, verdict.clone());
        }
    }

    fn cast_with_sessions(
        &mut self,
        core: &mut Core<'_>,
        sessions: &mut Sessions<'_, Session>,
        message: &(dyn Any + Send + Sync),
    ) {
        match message.downcast_ref() {
            Some(command) => self.obey(core, sessions, command),
            None => self.cast(core, message),
        }
    }

    fn request(&mut self, _: &mut Core<'_>, request: &Request<'_>) -> Response {
        let response = match request.path() {
            "/" => Response::with_body(200, "text/html; charset=utf-8", self.page.clone().into_bytes()),
            "/ws" => Response::text(426, NO_UPGRADE).header("Upgrade", "websocket").expect("a good header"),
            _ => Response::text(404, NOT_FOUND),
        };
        if request.head().method() == "HEAD" { response.without_body() } else { response }
    }

    fn tick_interval(&self) -> Option<Duration> {
        Some(CONNECT_CHECK)
    }

    fn tick(&mut self, core: &mut Core<'_>) {
        for id in self.unconnected.expire() {
            core.close_conn(id, close::CONNECT_TIMEOUT, close::reason(close::CONNECT_TIMEOUT));
        }
        while let Some((id, topic)) = self.expiries.pop(access::now(core)) {
            match topic {
                None => core.close_conn(id, close::TOKEN_EXPIRED, close::reason(close::TOKEN_EXPIRED)),
                Some(topic) => {
                    self.listeners.remove(&(id, topic.clone()));
                    v1::end(
                        core,
                        &self.watch,
                        id,
                        topic.as_str(),
                        ErrorCode::TokenExpired,
                        "the token for this topic has expired",
                    );
                }
            }
        }
    }

    fn overflow(&self) -> Overflow {
        Overflow::Disconnect(close::SLOW_CONSUMER)
    }
}

const PAGE: &str = include_str!("demo.html");

const NOT_FOUND: &str = "There is nothing here. The page to try this server is at /, its health at /healthz and \
                         /readyz, WebSocket clients connect to /ws?topic=NAME, and Server-Sent Events come from \
                         /sse?topic=NAME.\n";

const NOT_HERE: &str = "WebSocket clients connect to /ws: /ws?topic=NAME for bare data, or with the subprotocol \
                        corewire.v1.\n";

const NO_UPGRADE: &str = "This is where WebSocket clients connect, and the request asks for no WebSocket. If a \
                          WebSocket client sent it, a proxy in between has dropped the Upgrade header field.\n";
