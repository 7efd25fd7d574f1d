//! Clients that speak `corewire.v1`.

use bytes::Bytes;

use super::access::{self, Failure, User};
use super::budget::Budget;
use super::command::Arrival;
use super::decide::Undecided;
use super::seats::Seat;
use super::watch::Watch;
use super::words::{Asked, from_wire, presence_event, refusal, to_wire};
use super::{RAW, Serve, V1, raw};
use crate::auth::{Identity, TopicGrant, UnixSeconds};
use crate::handler::{Body, CannotSubscribe, Conn, ConnId, Core, TopicNews};
use crate::protocol::MessageKind;
use crate::topics::{Access, Begun, DataKind, Draft, Read, Recovery, Refused, Reply, Subject, Topic, Want};
use crate::wire::{self, Ack, ClientMessage, ErrorCode, ServerMessage, Token, close};

/// One client.
#[derive(Debug, Default)]
pub(super) struct Client {
    arrival: Option<Arrival>,
    pub(super) standing: Standing,
    /// What the back end has been asked; meanwhile the connection is paused.
    pub(super) undecided: Option<Box<Undecided>>,
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
pub(super) enum Standing {
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
pub(super) struct Wanted<'a> {
    pub(super) id: u32,
    pub(super) name: &'a str,
    pub(super) recover: Option<wire::Position>,
    pub(super) token: Option<Token<'a>>,
    pub(super) presence: bool,
    /// What the back end says.
    pub(super) granted: Option<TopicGrant>,
}

/// Topics and patterns of one connection.
const SUBSCRIPTIONS_MAX: usize = 1024;
/// Frames that are no messages, until the connection is closed.
const FAULTS_MAX: u32 = 100;

pub(super) type Outcome<'a> = Result<Option<ServerMessage<'a>>, Failure>;

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
        let outcome = self.answer(conn, client, message);
        finish(conn, id, is_first, outcome);
    }

    fn answer<'a>(&mut self, conn: &mut Conn<'_>, client: &mut Client, message: ClientMessage<'a>) -> Outcome<'a> {
        match message {
            ClientMessage::Connect { id, token } => self.connect(conn, client, id, token.as_ref()),
            _ if !client.is_connected() => Err(Failure::new(ErrorCode::NotConnected, "`connect` comes first")),
            ClientMessage::Subscribe { id, topic, recover, token, presence } => {
                self.subscribe(conn, client, Wanted { id, name: &topic, recover, token, presence, granted: None })
            }
            ClientMessage::Unsubscribe { id, topic } => self.unsubscribe(conn, client, id, &topic),
            ClientMessage::Publish { id, topic, data, key } => {
                let data = Bytes::copy_from_slice(data.get().as_bytes());
                let key = key.map(|key| key.as_ref().into());
                self.publish(conn, client, id, &topic, Draft { kind: DataKind::Json, data, key, publisher: None })
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
            (Standing::Unconnected | Standing::Known(_), _) if self.asks.anybody() => {
                return self.ask_to_connect(conn, client, id, token);
            }
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
                self.renew(conn, client, identity);
            }
        }
        Ok(Some(self.welcome(conn, client, id, now)))
    }

    /// The same user has shown something newer.
    pub(super) fn renew(&mut self, conn: &mut Conn<'_>, client: &mut Client, identity: Identity) {
        let Standing::Known(user) = &mut client.standing else { return };
        self.expiries.remove(conn.id(), None, user.valid_until);
        user.renew(identity);
        self.expiries.add(conn.id(), None, user.valid_until);
        self.end_forbidden(conn, client);
    }

    /// It is connected, or still is.
    pub(super) fn welcome<'a>(
        &mut self,
        conn: &Conn<'_>,
        client: &Client,
        id: u32,
        now: UnixSeconds,
    ) -> ServerMessage<'a> {
        self.unconnected.remove(conn.id());
        self.watch.connected(conn.id(), client.user().map(|user| &user.member.user));
        let connection = Some(conn.id().to_string().into());
        let user = client.user();
        let expires_in = user.and_then(|user| user.valid_until).map(|until| until.since(now).as_secs());
        let user = user.map(|user| user.name().to_owned().into());
        ServerMessage::Ack(Ack { connection, user, expires_in, ..Ack::done(id) })
    }

    /// A newer token may permit less than the one before.
    fn end_forbidden(&mut self, conn: &mut Conn<'_>, client: &mut Client) {
        for subject in conn.subscriptions() {
            let (namespace, name) = (access::namespace_of(conn.namespaces(), &subject), access::name_of(&subject));
            let is_forbidden = namespace.subscribe == Access::Token
                && !client.signed.iter().any(|(signed, _)| signed.as_str() == name)
                && access::may_subscribe(namespace, name, client.user()).is_err();
            if is_forbidden {
                let message = "the newer token does not allow this subscription";
                if let Some(Pending { id, .. }) = client.take_pending(name) {
                    tell(conn, &ServerMessage::error(Some(id), ErrorCode::Forbidden, message));
                    conn.unsubscribe(name);
                } else {
                    let id = conn.id();
                    end(conn, &self.watch, id, name, ErrorCode::Forbidden, message);
                }
                self.forget_subscription(conn.id(), client, name);
            }
        }
    }

    pub(super) fn subscribe<'a>(
        &mut self,
        conn: &mut Conn<'_>,
        client: &mut Client,
        wanted: Wanted<'_>,
    ) -> Outcome<'a> {
        let subject = access::known_subject(conn.namespaces(), wanted.name)?;
        let namespace = access::namespace_of(conn.namespaces(), &subject).clone();
        let may_ask = self.asks.anybody()
            && matches!(subject, Subject::Topic(_))
            && matches!(namespace.subscribe, Access::Token | Access::Signed);
        let grant = match (&subject, &wanted) {
            (_, Wanted { granted: Some(grant), .. }) => Some(grant.clone()),
            (Subject::Topic(topic), Wanted { token: Some(Token(token)), .. })
                if namespace.subscribe == Access::Signed && !may_ask =>
            {
                let user = client.user().map(User::name);
                Some(self.admission.subscription(token, topic.as_str(), user, access::now(conn))?)
            }
            _ => match access::may_subscribe(&namespace, wanted.name, client.user()) {
                Ok(()) => None,
                Err(_) if may_ask => return self.ask_to_subscribe(conn, client, &wanted),
                Err(failure) => return Err(failure),
            },
        };
        let Wanted { id, name, recover, presence, .. } = wanted;
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
        let pending = client.take_pending(name);
        if pending.is_none() {
            self.watch.unsubscribed(conn.id(), &access::subject(name)?);
        }
        if let Some(Pending { id, .. }) = pending {
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
        mut draft: Draft,
    ) -> Outcome<'a> {
        let topic = access::known_topic(conn.namespaces(), name)?;
        let namespace = conn.namespaces().of(&topic);
        access::may_publish(namespace, &topic, client.user())?;
        client.budget.publication(namespace, conn.now())?;
        draft.publisher = access::publisher(namespace, client.user());
        let watched = self.watch.wants_publications().then(|| draft.clone());
        // Also without an id, so that a refusal can be told.
        let ticket = conn.publish_asking(&topic, draft, None, Reply::Accepted).map_err(refusal)?;
        if let Some(draft) = watched {
            self.watch.publishing(ticket, conn.id(), &topic, draft);
        }
        self.asked.insert(ticket, Asked::Publish { to: conn.id(), id });
        Ok(None)
    }

    fn ask_presence<'a>(&mut self, conn: &mut Conn<'_>, client: &Client, id: u32, name: &str) -> Outcome<'a> {
        let topic = access::known_topic(conn.namespaces(), name)?;
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
            TopicNews::Gap(_) => to.iter().for_each(|&id| end_for_loss(core, &self.watch, id, topic)),
            TopicNews::Members(_) => {
                to.iter().copied().filter(is_listener).for_each(|id| end_for_loss(core, &self.watch, id, topic));
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

    /// Whether it has said `connect`, and was let in.
    pub(super) fn is_connected(&self) -> bool {
        !matches!(self.standing, Standing::Unconnected)
    }

    fn has_signed(&self, topic: &Topic, now: UnixSeconds) -> bool {
        self.signed.iter().any(|(signed, until)| signed == topic && until.is_none_or(|until| now < until))
    }

    pub(super) fn take_pending(&mut self, name: &str) -> Option<Pending> {
        let place = self.pending.iter().position(|pending| pending.name == name)?;
        let pending = self.pending.swap_remove(place);
        if self.pending.is_empty() {
            // Most clients subscribe once, and stay for long.
            self.pending = Vec::new();
        }
        Some(pending)
    }
}

/// What became of a message, which may have been the first `connect`.
pub(super) fn finish(conn: &mut Conn<'_>, id: Option<u32>, is_first: bool, outcome: Outcome<'_>) {
    match outcome {
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

/// Something was lost that cannot be told any more: the client subscribes again, and learns what it needs.
fn end_for_loss(core: &mut Core<'_>, watch: &Watch, id: ConnId, topic: &Topic) {
    match core.wire_of(id) {
        // Those who hear it by a pattern go on: their subscription has no position.
        Some(V1) => end(core, watch, id, topic.as_str(), ErrorCode::Unavailable, "something was lost on the way"),
        Some(RAW) => raw::end_for_loss(core, id),
        Some(_) | None => {}
    }
}

/// Ends a subscription, if there is one, and says why.
pub(super) fn end(core: &mut Core<'_>, watch: &Watch, id: ConnId, name: &str, code: ErrorCode, reason: &str) {
    if core.unsubscribe_conn(id, name) {
        if let Ok(subject) = access::subject(name) {
            watch.unsubscribed(id, &subject);
        }
        let message = ServerMessage::unsubscribed(name, code, reason);
        let _ = core.send_to(id, MessageKind::Text, Body::Shared(message.encode().into()));
    }
}

/// A full queue closes the connection by the handler's policy; there is nobody else to tell.
pub(super) fn tell(conn: &mut Conn<'_>, message: &ServerMessage<'_>) {
    let _ = conn.send(MessageKind::Text, Body::Shared(message.encode().into()));
}

impl Failure {
    /// As the answer to a message.
    pub(super) fn answer(self, id: Option<u32>) -> ServerMessage<'static> {
        let Self { code, message, retry_ms } = self;
        ServerMessage::Error { id, code: code.name().into(), message, retry_ms }
    }
}

fn no_presence() -> Failure {
    Failure::new(ErrorCode::PresenceDisabled, "the namespace keeps no presence")
}
