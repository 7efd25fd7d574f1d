//! Clients that speak `corewire.v1`, without tokens: all of them are anonymous.

use std::borrow::Cow;
use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use super::{Serve, V1, access};
use crate::handler::{Body, CannotSubscribe, Conn, ConnId, Core, Delivery, TopicNews, Unanswered};
use crate::protocol::MessageKind;
use crate::topics::{
    self, Answer, Begun, DataKind, Draft, PresenceChange, Read, Recovery, Refused, Reply, Subject, Topic, Want,
};
use crate::wire::{
    self, Ack, ClientMessage, Data, ErrorCode, Member, Presence, PresenceEvent, ServerMessage, Token, close,
};

/// One client.
#[derive(Debug, Default)]
pub(super) struct Client {
    is_connected: bool,
    /// Frames that were no messages.
    fault_count: u32,
    /// Subscriptions that have not begun yet.
    pending: Vec<Pending>,
    /// Topics of which it wants to be told joins and leaves, or wanted to.
    listened: Vec<Topic>,
}

/// A subscription whose request is not answered yet.
#[derive(Debug)]
struct Pending {
    id: u32,
    name: String,
    wants_recovery: bool,
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

/// Why something was not done.
struct Failure(ErrorCode, Cow<'static, str>);

type Outcome<'a> = Result<Option<ServerMessage<'a>>, Failure>;

impl Serve {
    /// A text frame has come.
    pub(super) fn hear(&mut self, conn: &mut Conn<'_>, client: &mut Client, text: &str) {
        let message = match ClientMessage::decode(text) {
            Ok(message) => message,
            Err(refusal) => {
                tell(conn, &refusal.to_message());
                client.fault_count += 1;
                if client.fault_count >= FAULTS_MAX {
                    conn.close(close::ABUSE, "too many messages");
                }
                return;
            }
        };
        let (id, is_first) = (message.id(), !client.is_connected);
        match self.answer(conn, client, message) {
            Ok(answer) => answer.iter().for_each(|answer| tell(conn, answer)),
            Err(Failure(code, message)) => {
                tell(conn, &ServerMessage::error(id, code, message));
                if let Some(close_code) = code.ends_connect().filter(|_| is_first) {
                    conn.close(close_code, code.name());
                }
            }
        }
    }

    fn answer<'a>(&mut self, conn: &mut Conn<'_>, client: &mut Client, message: ClientMessage<'a>) -> Outcome<'a> {
        match message {
            ClientMessage::Connect { id, token } => self.connect(conn, client, id, token.as_ref()),
            _ if !client.is_connected => Err(failure(ErrorCode::NotConnected, "`connect` comes first")),
            ClientMessage::Subscribe { id, topic, recover, token, presence } => {
                refuse_token(token.as_ref())?;
                self.subscribe(conn, client, id, &topic, recover, presence)
            }
            ClientMessage::Unsubscribe { id, topic } => self.unsubscribe(conn, client, id, &topic),
            ClientMessage::Publish { id, topic, data, key } => {
                let data = Bytes::copy_from_slice(data.get().as_bytes());
                let key = key.map(|key| key.as_ref().into());
                self.publish(conn, id, &topic, Draft { kind: DataKind::Json, data, key })
            }
            ClientMessage::Presence { id, topic } => self.ask_presence(conn, id, &topic),
            ClientMessage::Ping { id } => Ok(Some(ServerMessage::Ack(Ack::done(id)))),
        }
    }

    fn connect<'a>(&mut self, conn: &Conn<'_>, client: &mut Client, id: u32, token: Option<&Token<'_>>) -> Outcome<'a> {
        refuse_token(token)?;
        client.is_connected = true;
        self.unconnected.remove(conn.id());
        let connection = Some(conn.id().to_string().into());
        Ok(Some(ServerMessage::Ack(Ack { connection, ..Ack::done(id) })))
    }

    fn subscribe<'a>(
        &mut self,
        conn: &mut Conn<'_>,
        client: &mut Client,
        id: u32,
        name: &str,
        recover: Option<wire::Position>,
        presence: bool,
    ) -> Outcome<'a> {
        let subject = access::subject(name).map_err(|error| Failure(ErrorCode::BadTopic, error.to_string().into()))?;
        let namespace = match &subject {
            Subject::Topic(topic) => conn.namespaces().of(topic).clone(),
            Subject::Pattern(pattern) => conn.namespaces().of_pattern(pattern).clone(),
        };
        access::check(namespace.subscribe).map_err(denied)?;
        if presence && !namespace.presence {
            return Err(no_presence());
        }
        if conn.subscription_count() >= SUBSCRIPTIONS_MAX {
            return Err(failure(ErrorCode::TooManySubscriptions, "the connection has 1024 subscriptions"));
        }
        let begun = match &subject {
            Subject::Topic(topic) => {
                let newcomers = || access::newcomers(&namespace);
                let want = recover.map_or_else(newcomers, |position| Want::Since(from_wire(position)));
                conn.subscribe(topic, want, None)
            }
            Subject::Pattern(_) if recover.is_some() => {
                return Err(failure(ErrorCode::NotRecoverable, "only topics can be recovered, not patterns"));
            }
            Subject::Pattern(pattern) => conn.subscribe_pattern(pattern),
        };
        match begun {
            Ok(()) => client.pending.push(Pending { id, name: name.to_owned(), wants_recovery: recover.is_some() }),
            Err(CannotSubscribe::Already) => {
                return Err(failure(ErrorCode::AlreadySubscribed, "the connection has this subscription"));
            }
            // It is closing: nobody is there to be told.
            Err(CannotSubscribe::NotOpen) => {}
        }
        if let Subject::Topic(topic) = subject
            && presence
        {
            self.listeners.insert((conn.id(), topic.clone()));
            client.listened.push(topic);
        }
        Ok(None)
    }

    fn unsubscribe<'a>(&mut self, conn: &mut Conn<'_>, client: &mut Client, id: u32, name: &str) -> Outcome<'a> {
        if !conn.unsubscribe(name) {
            return Err(failure(ErrorCode::NotSubscribed, "the connection has no such subscription"));
        }
        if let Some(place) = client.listened.iter().position(|topic| topic.as_str() == name) {
            self.listeners.remove(&(conn.id(), client.listened.swap_remove(place)));
        }
        if let Some(Pending { id, .. }) = client.take_pending(name) {
            let what = "the subscription was ended before it began";
            tell(conn, &ServerMessage::error(Some(id), ErrorCode::Unavailable, what));
        }
        Ok(Some(ServerMessage::Ack(Ack::done(id))))
    }

    fn publish<'a>(&mut self, conn: &mut Conn<'_>, id: Option<u32>, name: &str, draft: Draft) -> Outcome<'a> {
        let topic = Topic::parse(name).map_err(|error| Failure(ErrorCode::BadTopic, error.to_string().into()))?;
        access::check(conn.namespaces().of(&topic).publish).map_err(denied)?;
        // Also without an id, so that a refusal can be told.
        let ticket = conn.publish_asking(&topic, draft, None, Reply::Accepted).map_err(refusal)?;
        self.asked.insert(ticket, Asked::Publish { to: conn.id(), id });
        Ok(None)
    }

    fn ask_presence<'a>(&mut self, conn: &mut Conn<'_>, id: u32, name: &str) -> Outcome<'a> {
        let topic = Topic::parse(name).map_err(|error| Failure(ErrorCode::BadTopic, error.to_string().into()))?;
        let namespace = conn.namespaces().of(&topic);
        access::check(namespace.subscribe).map_err(denied)?;
        if !namespace.presence {
            return Err(no_presence());
        }
        let ticket = conn.read(&topic, Read::Members).map_err(refusal)?;
        self.asked.insert(ticket, Asked::Presence { to: conn.id(), id, topic });
        Ok(None)
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
            let Failure(code, message) = refusal(refused);
            tell(conn, &ServerMessage::error(Some(id), code, message));
        }
    }

    /// Topics of which it wanted to be told joins and leaves.
    pub(super) fn listened(&self) -> impl Iterator<Item = &Topic> {
        self.listened.iter()
    }

    fn take_pending(&mut self, name: &str) -> Option<Pending> {
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
            (Ok(Answer::Refused(refused)), _) => {
                let Failure(code, message) = refusal(refused);
                ServerMessage::error(id, code, message)
            }
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
    if core.wire_of(id) == Some(V1) && core.unsubscribe_conn(id, topic.as_str()) {
        let message =
            ServerMessage::unsubscribed(topic.as_str(), ErrorCode::Unavailable, "something was lost on the way");
        let _ = core.send_to(id, MessageKind::Text, Body::Shared(message.encode().into()));
    }
}

/// A full queue closes the connection by the handler's policy; there is nobody else to tell.
fn tell(conn: &mut Conn<'_>, message: &ServerMessage<'_>) {
    let _ = conn.send(MessageKind::Text, Body::Shared(message.encode().into()));
}

fn refuse_token(token: Option<&Token<'_>>) -> Result<(), Failure> {
    match token {
        None => Ok(()),
        Some(_) => Err(failure(ErrorCode::TokenInvalid, "this server has no keys to check a token with")),
    }
}

fn failure(code: ErrorCode, message: &'static str) -> Failure {
    Failure(code, message.into())
}

fn denied(code: ErrorCode) -> Failure {
    match code {
        ErrorCode::TokenRequired => failure(code, "this needs a token"),
        _ => failure(code, "clients may not do this here"),
    }
}

fn no_presence() -> Failure {
    failure(ErrorCode::PresenceDisabled, "the namespace keeps no presence")
}

fn refusal(refused: Refused) -> Failure {
    let code = match refused {
        Refused::TooLarge { .. } => ErrorCode::DataTooBig,
        Refused::TooManyTopics | Refused::KeyTooLong { .. } | Refused::Busy => ErrorCode::Unavailable,
    };
    Failure(code, refused.to_string().into())
}

fn member(member: topics::Member) -> Member<'static> {
    Member {
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

fn to_wire(position: topics::Position) -> wire::Position {
    wire::Position { epoch: wire::Epoch(position.epoch.number()), offset: position.offset }
}

fn from_wire(position: wire::Position) -> topics::Position {
    topics::Position { epoch: topics::Epoch::new(position.epoch.0), offset: position.offset }
}
