//! Clients that speak `corewire.v1`.

use std::borrow::Cow;
use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use super::access::{self, Failure, User};
use super::budget::Budget;
use super::command::Arrival;
use super::seats::Seat;
use super::{Serve, V1};
use crate::auth::UnixSeconds;
use crate::handler::{Body, CannotSubscribe, Conn, ConnId, Core, Delivery, TopicNews, Unanswered};
use crate::protocol::MessageKind;
use crate::topics::{
    self, Access, Answer, Begun, DataKind, Draft, PresenceChange, Read, Recovery, Refused, Reply, Subject, Topic, Want,
};
use crate::wire::{self, Ack, ClientMessage, Data, ErrorCode, Presence, PresenceEvent, ServerMessage, Token, close};

/// One client.
#[derive(Debug, Default)]
pub(super) struct Client {
    arrival: Option<Arrival>,
    standing: Standing,
    /// Frames that were no messages.
    fault_count: u32,
    /// Subscriptions that have not begun yet.
    pending: Vec<Pending>,
    /// Topics of which it wants to be told joins and leaves, or wanted to.
    listened: Vec<Topic>,
    /// Topics that were subscribed to with a token of their own, and until when that is good.
    signed: Vec<(Topic, Option<UnixSeconds>)>,
    budget: Budget,
    /// Where the connections from an address are limited.
    _seat: Option<Box<Seat>>,
}

/// What a client has said of itself.
#[derive(Debug, Default)]
enum Standing {
    /// Nothing yet: `connect` comes first.
    #[default]
    Unconnected,
    /// Nobody in particular.
    Anonymous,
    Known(Box<User>),
}

/// A subscription whose request is not answered yet.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) id: u32,
    name: String,
    wants_recovery: bool,
}

/// What a `subscribe` asks for.
struct Wanted<'a> {
    id: u32,
    name: &'a str,
    recover: Option<wire::Position>,
    token: Option<Token<'a>>,
    presence: bool,
}

/// A question to a topic's home, and whom to tell the answer.
#[derive(Debug)]
pub(super) enum Asked {
    /// Whether it was published; without an id only a refusal is told.
    Publish { to: ConnId, id: Option<u32> },
    /// Who is there.
    Presence { to: ConnId, id: u32, topic: Topic },
}

/// Connections that must say `connect` soon.
#[derive(Debug, Default)]
pub(super) struct Unconnected {
    check: u64,
    waiting: HashSet<ConnId>,
    /// In order of the check at which their time is over; some have connected meanwhile.
    order: VecDeque<(u64, ConnId)>,
}

/// How often is looked for connections that have not said `connect`.
pub(super) const CONNECT_CHECK: Duration = Duration::from_secs(1);
/// They have at least this many checks less one.
const CONNECT_CHECKS: u64 = 11;
/// Topics and patterns of one connection.
const SUBSCRIPTIONS_MAX: usize = 1024;
/// Frames that are no messages, until the connection is closed.
const FAULTS_MAX: u32 = 100;

type Outcome<'a> = Result<Option<ServerMessage<'a>>, Failure>;

impl Serve {
    /// A text frame has come.
    pub(super) fn hear(&mut self, conn: &mut Conn<'_>, client: &mut Client, text: &str) {
        let decoded = ClientMessage::decode(text);
        let budget = &mut client.budget;
        if let Err(exceeded) = budget.message(self.admission.message_rate, conn.now()) {
            let id = decoded.map_or_else(|refusal| refusal.id, |message| message.id());
            tell(conn, &Failure::from(exceeded).answer(id));
            if budget.is_overdrawn() {
                conn.close(close::ABUSE, close::reason(close::ABUSE));
            }
            return;
        }
        let message = match decoded {
            Ok(message) => message,
            Err(refusal) => {
                tell(conn, &refusal.to_message());
                client.fault_count += 1;
                if client.fault_count >= FAULTS_MAX {
                    conn.close(close::ABUSE, close::reason(close::ABUSE));
                }
                return;
            }
        };
        let (id, is_first) = (message.id(), !client.is_connected());
        match self.answer(conn, client, message) {
            Ok(answer) => answer.iter().for_each(|answer| tell(conn, answer)),
            Err(failure) => {
                let close_code = failure.code.ends_connect().filter(|_| is_first);
                tell(conn, &failure.answer(id));
                if let Some(close_code) = close_code {
                    conn.close(close_code, close::reason(close_code));
                }
            }
        }
    }

    fn answer<'a>(&mut self, conn: &mut Conn<'_>, client: &mut Client, message: ClientMessage<'a>) -> Outcome<'a> {
        match message {
            ClientMessage::Connect { id, token } => self.connect(conn, client, id, token.as_ref()),
            _ if !client.is_connected() => Err(Failure::new(ErrorCode::NotConnected, "`connect` comes first")),
            ClientMessage::Subscribe { id, topic, recover, token, presence } => {
                self.subscribe(conn, client, Wanted { id, name: &topic, recover, token, presence })
            }
            ClientMessage::Unsubscribe { id, topic } => self.unsubscribe(conn, client, id, &topic),
            ClientMessage::Publish { id, topic, data, key } => {
                let data = Bytes::copy_from_slice(data.get().as_bytes());
                let key = key.map(|key| key.as_ref().into());
                self.publish(conn, client, id, &topic, Draft { kind: DataKind::Json, data, key })
            }
            ClientMessage::Presence { id, topic } => self.ask_presence(conn, client, id, &topic),
            ClientMessage::Ping { id } => Ok(Some(ServerMessage::Ack(Ack::done(id)))),
        }
    }

    fn connect<'a>(
        &mut self,
        conn: &mut Conn<'_>,
        client: &mut Client,
        id: u32,
        token: Option<&Token<'_>>,
    ) -> Outcome<'a> {
        let now = access::now(conn);
        match (&mut client.standing, token) {
            (Standing::Unconnected, None) => {
                self.admission.anonymous()?;
                client.standing = Standing::Anonymous;
            }
            (Standing::Unconnected, Some(Token(token))) => {
                let mut user = self.admission.user(token, now)?;
                if user.sit_down(&self.admission).is_err() {
                    conn.close(close::TOO_MANY_CONNECTIONS, close::reason(close::TOO_MANY_CONNECTIONS));
                    return Ok(None);
                }
                self.expiries.add(conn.id(), None, user.valid_until);
                client.standing = Standing::Known(Box::new(user));
            }
            (Standing::Anonymous, None) => {}
            (Standing::Anonymous, Some(_)) => {
                let message = "the connection was made without a token, and cannot become somebody's: make another";
                return Err(Failure::new(ErrorCode::TokenInvalid, message));
            }
            (Standing::Known(_), None) => {
                let message = "a connection that was made with a token stays with another";
                return Err(Failure::new(ErrorCode::TokenRequired, message));
            }
            (Standing::Known(user), Some(Token(token))) => {
                let identity = self.admission.refresh(token, user.name(), now)?;
                self.expiries.remove(conn.id(), None, user.valid_until);
                user.renew(identity);
                self.expiries.add(conn.id(), None, user.valid_until);
                self.end_forbidden(conn, client);
            }
        }
        self.unconnected.remove(conn.id());
        let connection = Some(conn.id().to_string().into());
        let user = client.user();
        let expires_in = user.and_then(|user| user.valid_until).map(|until| until.since(now).as_secs());
        let user = user.map(|user| user.name().to_owned().into());
        Ok(Some(ServerMessage::Ack(Ack { connection, user, expires_in, ..Ack::done(id) })))
    }

    /// A newer token may permit less than the one before.
    fn end_forbidden(&mut self, conn: &mut Conn<'_>, client: &mut Client) {
        for subject in conn.subscriptions() {
            let (namespace, name) = (access::namespace_of(conn.namespaces(), &subject), access::name_of(&subject));
            if namespace.subscribe == Access::Token && access::may_subscribe(namespace, name, client.user()).is_err() {
                let message = "the newer token does not allow this subscription";
                if let Some(Pending { id, .. }) = client.take_pending(name) {
                    tell(conn, &ServerMessage::error(Some(id), ErrorCode::Forbidden, message));
                    conn.unsubscribe(name);
                } else {
                    let id = conn.id();
                    end(conn, id, name, ErrorCode::Forbidden, message);
                }
                self.forget_subscription(conn.id(), client, name);
            }
        }
    }

    fn subscribe<'a>(&mut self, conn: &mut Conn<'_>, client: &mut Client, wanted: Wanted<'_>) -> Outcome<'a> {
        let Wanted { id, name, recover, token, presence } = wanted;
        let subject = access::subject(name)?;
        let namespace = access::namespace_of(conn.namespaces(), &subject).clone();
        let grant = match (&subject, token) {
            (Subject::Topic(topic), Some(Token(token))) if namespace.subscribe == Access::Signed => {
                let user = client.user().map(User::name);
                Some(self.admission.subscription(&token, topic.as_str(), user, access::now(conn))?)
            }
            _ => {
                access::may_subscribe(&namespace, name, client.user())?;
                None
            }
        };
        if presence && !namespace.presence {
            return Err(no_presence());
        }
        if conn.subscription_count() >= SUBSCRIPTIONS_MAX {
            return Err(Failure::new(ErrorCode::TooManySubscriptions, "the connection has 1024 subscriptions"));
        }
        let begun = match &subject {
            Subject::Topic(topic) => {
                let newcomers = || access::newcomers(&namespace);
                let want = recover.map_or_else(newcomers, |position| Want::Since(from_wire(position)));
                let info = grant.as_ref().and_then(|grant| grant.info.clone());
                let member = client.user().filter(|_| namespace.presence).map(|user| user.member_with(info));
                conn.subscribe(topic, want, member.as_ref())
            }
            Subject::Pattern(_) if recover.is_some() => {
                return Err(Failure::new(ErrorCode::NotRecoverable, "only topics can be recovered, not patterns"));
            }
            Subject::Pattern(pattern) => conn.subscribe_pattern(pattern),
        };
        match begun {
            Ok(()) => {}
            Err(CannotSubscribe::Already) => {
                return Err(Failure::new(ErrorCode::AlreadySubscribed, "the connection has this subscription"));
            }
            // It is closing: nobody is there to be told.
            Err(CannotSubscribe::NotOpen) => return Ok(None),
        }
        // What is left of an earlier one that the server has ended.
        client.take_pending(name);
        self.forget_subscription(conn.id(), client, name);
        client.pending.push(Pending { id, name: name.to_owned(), wants_recovery: recover.is_some() });
        let Subject::Topic(topic) = subject else { return Ok(None) };
        if presence {
            self.listeners.insert((conn.id(), topic.clone()));
            client.listened.push(topic.clone());
        }
        if let Some(grant) = grant {
            self.expiries.add(conn.id(), Some(&topic), grant.valid_until);
            client.signed.push((topic, grant.valid_until));
        }
        Ok(None)
    }

    fn unsubscribe<'a>(&mut self, conn: &mut Conn<'_>, client: &mut Client, id: u32, name: &str) -> Outcome<'a> {
        if !conn.unsubscribe(name) {
            return Err(Failure::new(ErrorCode::NotSubscribed, "the connection has no such subscription"));
        }
        self.forget_subscription(conn.id(), client, name);
        if let Some(Pending { id, .. }) = client.take_pending(name) {
            let what = "the subscription was ended before it began";
            tell(conn, &ServerMessage::error(Some(id), ErrorCode::Unavailable, what));
        }
        Ok(Some(ServerMessage::Ack(Ack::done(id))))
    }

    fn publish<'a>(
        &mut self,
        conn: &mut Conn<'_>,
        client: &mut Client,
        id: Option<u32>,
        name: &str,
        draft: Draft,
    ) -> Outcome<'a> {
        let topic = Topic::parse(name)?;
        let namespace = conn.namespaces().of(&topic);
        access::may_publish(namespace, &topic, client.user())?;
        client.budget.publication(namespace, conn.now())?;
        // Also without an id, so that a refusal can be told.
        let ticket = conn.publish_asking(&topic, draft, None, Reply::Accepted).map_err(refusal)?;
        self.asked.insert(ticket, Asked::Publish { to: conn.id(), id });
        Ok(None)
    }

    fn ask_presence<'a>(&mut self, conn: &mut Conn<'_>, client: &Client, id: u32, name: &str) -> Outcome<'a> {
        let topic = Topic::parse(name)?;
        let namespace = conn.namespaces().of(&topic);
        // Who has subscribed with a token for this topic need not show it again.
        if !client.has_signed(&topic, access::now(conn)) {
            access::may_subscribe(namespace, name, client.user())?;
        }
        if !namespace.presence {
            return Err(no_presence());
        }
        let ticket = conn.read(&topic, Read::Members).map_err(refusal)?;
        self.asked.insert(ticket, Asked::Presence { to: conn.id(), id, topic });
        Ok(None)
    }

    /// What was remembered of a subscription that is over.
    pub(super) fn forget_subscription(&mut self, conn: ConnId, client: &mut Client, name: &str) {
        if let Some(place) = client.listened.iter().position(|topic| topic.as_str() == name) {
            self.listeners.remove(&(conn, client.listened.swap_remove(place)));
        }
        if let Some(place) = client.signed.iter().position(|(topic, _)| topic.as_str() == name) {
            let (topic, until) = client.signed.swap_remove(place);
            self.expiries.remove(conn, Some(&topic), until);
        }
    }

    /// The connection is over.
    pub(super) fn forget(&mut self, id: ConnId, client: &Client) {
        self.unconnected.remove(id);
        for topic in &client.listened {
            self.listeners.remove(&(id, topic.clone()));
        }
        for (topic, until) in &client.signed {
            self.expiries.remove(id, Some(topic), *until);
        }
        self.expiries.remove(id, None, client.user().and_then(|user| user.valid_until));
    }

    /// A back end says until when a client may stay without a newer token. Answers whether it has a token at all.
    pub(super) fn expire_at(&mut self, id: ConnId, client: &mut Client, at: UnixSeconds) -> bool {
        let Standing::Known(user) = &mut client.standing else { return false };
        self.expiries.remove(id, None, user.valid_until);
        user.valid_until = Some(at);
        self.expiries.add(id, None, user.valid_until);
        true
    }

    /// Joins and leaves to who wants them; who has missed something is asked to come back.
    pub(super) fn tell_news(&mut self, core: &mut Core<'_>, topic: &Topic, news: TopicNews<'_>, to: &[ConnId]) {
        let is_listener = |id: &ConnId| self.listeners.contains(&(*id, topic.clone()));
        match news {
            TopicNews::Presence(change) => {
                let event = presence_event(topic, change).encode();
                core.send_to_all(to.iter().copied().filter(is_listener), MessageKind::Text, event.into());
            }
            TopicNews::Gap(_) => to.iter().for_each(|&id| end_for_loss(core, id, topic)),
            TopicNews::Members(_) => {
                to.iter().copied().filter(is_listener).for_each(|id| end_for_loss(core, id, topic));
            }
        }
    }
}

impl Client {
    pub(super) fn new(arrival: Arrival, seat: Option<Box<Seat>>) -> Self {
        Self { arrival: Some(arrival), _seat: seat, ..Self::default() }
    }

    /// Where it came from, and when.
    pub(super) fn arrival(&self) -> Option<Arrival> {
        self.arrival
    }

    /// A subscription has begun.
    pub(super) fn subscribed(&mut self, conn: &mut Conn<'_>, subject: &Subject, begun: &Begun<'_>) {
        let name = match subject {
            Subject::Topic(topic) => topic.as_str(),
            Subject::Pattern(pattern) => pattern.as_str(),
        };
        let Some(Pending { id, wants_recovery, .. }) = self.take_pending(name) else { return };
        let ack = match begun.position {
            Some(position) => {
                let recovered = wants_recovery.then_some(begun.recovery == Recovery::Recovered);
                Ack::subscribed(id, to_wire(position), recovered, begun.publications.len() as u32)
            }
            None => Ack::done(id),
        };
        tell(conn, &ServerMessage::Ack(ack));
    }

    /// A subscription could not begin.
    pub(super) fn not_subscribed(&mut self, conn: &mut Conn<'_>, topic: &Topic, refused: Refused) {
        if let Some(Pending { id, .. }) = self.take_pending(topic.as_str()) {
            tell(conn, &refusal(refused).answer(Some(id)));
        }
    }

    /// Who it is, if that is known.
    pub(super) fn user(&self) -> Option<&User> {
        match &self.standing {
            Standing::Unconnected | Standing::Anonymous => None,
            Standing::Known(user) => Some(user),
        }
    }

    fn is_connected(&self) -> bool {
        !matches!(self.standing, Standing::Unconnected)
    }

    fn has_signed(&self, topic: &Topic, now: UnixSeconds) -> bool {
        self.signed.iter().any(|(signed, until)| signed == topic && until.is_none_or(|until| now < until))
    }

    pub(super) fn take_pending(&mut self, name: &str) -> Option<Pending> {
        let place = self.pending.iter().position(|pending| pending.name == name)?;
        Some(self.pending.swap_remove(place))
    }
}

impl Asked {
    /// The answer is there, or will never come.
    pub(super) fn tell(self, core: &mut Core<'_>, answer: Result<Answer, Unanswered>) {
        let (to, id) = match &self {
            Self::Publish { to, id } => (*to, *id),
            Self::Presence { to, id, .. } => (*to, Some(*id)),
        };
        let message = match (answer, &self) {
            (Ok(Answer::Published(receipt)), _) => match id {
                Some(id) => ServerMessage::Ack(Ack::published(id, to_wire(receipt.position))),
                None => return,
            },
            (Ok(Answer::Members(members)), Self::Presence { id, topic, .. }) => {
                let members = members.into_iter().map(member).collect();
                ServerMessage::Presence(Presence { id: *id, topic: topic.as_str().into(), members })
            }
            (Ok(Answer::Refused(refused)), _) => refusal(refused).answer(id),
            (Ok(_), _) => ServerMessage::error(id, ErrorCode::Internal, "an answer to another question"),
            (Err(unanswered), _) => ServerMessage::error(id, ErrorCode::Unavailable, unanswered.to_string()),
        };
        // It may be gone, or closing.
        let _ = core.send_to(to, MessageKind::Text, Body::Shared(message.encode().into()));
    }
}

impl Unconnected {
    /// One more.
    pub(super) fn add(&mut self, id: ConnId) {
        self.waiting.insert(id);
        self.order.push_back((self.check + CONNECT_CHECKS, id));
    }

    /// It has connected, or is gone.
    pub(super) fn remove(&mut self, id: ConnId) {
        self.waiting.remove(&id);
    }

    /// Another check: those whose time is over.
    pub(super) fn expire(&mut self) -> Vec<ConnId> {
        self.check += 1;
        let check = self.check;
        let over = std::iter::from_fn(|| self.order.pop_front_if(|(at, _)| *at <= check));
        over.map(|(_, id)| id).filter(|id| self.waiting.remove(id)).collect()
    }
}

/// A publication as all its subscribers get it. Bytes have no form in JSON.
pub(super) fn encode(delivery: &Delivery<'_>) -> Option<(MessageKind, Bytes)> {
    let Draft { kind, data, key } = &delivery.publication.draft;
    let text = std::str::from_utf8(data).ok()?;
    let data = match kind {
        DataKind::Json => Data::Json(text),
        DataKind::Text => Data::Text(text),
        DataKind::Binary => return None,
    };
    let (topic, key) = (delivery.topic.as_str().into(), key.as_deref().map(Cow::from));
    let message = wire::Message { topic, offset: delivery.publication.offset, key, user: None, data };
    Some((MessageKind::Text, message.encode().into()))
}

/// Something was lost that cannot be told any more: the client subscribes again, and learns what it needs.
fn end_for_loss(core: &mut Core<'_>, id: ConnId, topic: &Topic) {
    // Those who hear it by a pattern go on: their subscription has no position.
    if core.wire_of(id) == Some(V1) {
        end(core, id, topic.as_str(), ErrorCode::Unavailable, "something was lost on the way");
    }
}

/// Ends a subscription, if there is one, and says why.
pub(super) fn end(core: &mut Core<'_>, id: ConnId, name: &str, code: ErrorCode, reason: &str) {
    if core.unsubscribe_conn(id, name) {
        let message = ServerMessage::unsubscribed(name, code, reason);
        let _ = core.send_to(id, MessageKind::Text, Body::Shared(message.encode().into()));
    }
}

/// A full queue closes the connection by the handler's policy; there is nobody else to tell.
fn tell(conn: &mut Conn<'_>, message: &ServerMessage<'_>) {
    let _ = conn.send(MessageKind::Text, Body::Shared(message.encode().into()));
}

impl Failure {
    /// As the answer to a message.
    fn answer(self, id: Option<u32>) -> ServerMessage<'static> {
        let Self { code, message, retry_ms } = self;
        ServerMessage::Error { id, code: code.name().into(), message, retry_ms }
    }
}

fn no_presence() -> Failure {
    Failure::new(ErrorCode::PresenceDisabled, "the namespace keeps no presence")
}

fn refusal(refused: Refused) -> Failure {
    let code = match refused {
        Refused::TooLarge { .. } => ErrorCode::DataTooBig,
        Refused::TooManyTopics | Refused::KeyTooLong { .. } | Refused::Busy => ErrorCode::Unavailable,
    };
    Failure::new(code, refused.to_string())
}

fn member(member: topics::Member) -> wire::Member<'static> {
    wire::Member {
        user: member.user.to_string().into(),
        info: info(&member.info).map(Cow::into_owned).map(Cow::from),
        connections: None,
    }
}

fn presence_event<'a>(topic: &'a Topic, change: &'a PresenceChange) -> PresenceEvent<'a> {
    let (joined, user, info) = match change {
        PresenceChange::Joined(member) => (true, &member.user, info(&member.info)),
        PresenceChange::Left(user) => (false, user, None),
    };
    PresenceEvent { topic: topic.as_str().into(), joined, user: (&**user).into(), info }
}

fn info(info: &Bytes) -> Option<Cow<'_, str>> {
    std::str::from_utf8(info).ok().filter(|info| !info.is_empty()).map(Cow::from)
}

/// As clients know it.
pub(super) fn to_wire(position: topics::Position) -> wire::Position {
    wire::Position { epoch: wire::Epoch(position.epoch.number()), offset: position.offset }
}

/// What a client means.
pub(super) fn from_wire(position: wire::Position) -> topics::Position {
    topics::Position { epoch: topics::Epoch::new(position.epoch.0), offset: position.offset }
}
