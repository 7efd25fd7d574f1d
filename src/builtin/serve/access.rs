//! Who may do what: a namespace says what is needed, a token what there is.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;

use super::admission::Admission;
use super::seats::{Full, Seat};
use crate::auth::{Identity, Patterns, TokenError, UnixSeconds};
use crate::handler::Core;
use crate::topics::{
    Access, Member, NameError, Namespace, Namespaces, Pattern, Subject, Topic, UnknownNamespace, Want,
};
use crate::wire::ErrorCode;

/// Somebody who is known: what his token says.
#[derive(Debug)]
pub(super) struct User {
    /// His id, and what others are told of him.
    pub(super) member: Member,
    /// When the connection must end, unless a newer token has come.
    pub(super) valid_until: Option<UnixSeconds>,
    subscribe: Patterns,
    publish: Patterns,
    /// Where the connections of a user are limited.
    seat: Option<Box<Seat>>,
}

/// Why something was not done.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) code: ErrorCode,
    /// For people.
    pub(super) message: Cow<'static, str>,
    /// When to try again.
    pub(super) retry_ms: Option<u32>,
}

/// A topic or a pattern by its name.
///
/// # Errors
///
/// What is wrong with the name.
pub(super) fn subject(name: &str) -> Result<Subject, NameError> {
    if name.contains('*') { Pattern::parse(name).map(Subject::Pattern) } else { Topic::parse(name).map(Subject::Topic) }
}

/// A topic or a pattern that there may be.
///
/// # Errors
///
/// What is wrong with its name, or that its namespace is not configured.
pub(super) fn known_subject(namespaces: &Namespaces, name: &str) -> Result<Subject, Failure> {
    let subject = subject(name)?;
    if namespaces.knows(&subject) { Ok(subject) } else { Err(UnknownNamespace.into()) }
}

/// As [`known_subject`], where only a topic will do.
///
/// # Errors
///
/// As there.
pub(super) fn known_topic(namespaces: &Namespaces, name: &str) -> Result<Topic, Failure> {
    let topic = Topic::parse(name)?;
    if namespaces.knows_topic(&topic) { Ok(topic) } else { Err(UnknownNamespace.into()) }
}

/// The name that was subscribed to.
pub(super) fn name_of(subject: &Subject) -> &str {
    match subject {
        Subject::Topic(topic) => topic.as_str(),
        Subject::Pattern(pattern) => pattern.as_str(),
    }
}

/// The one namespace that a subscriber hears by this.
pub(super) fn namespace_of<'a>(namespaces: &'a Namespaces, subject: &Subject) -> &'a Arc<Namespace> {
    match subject {
        Subject::Topic(topic) => namespaces.of(topic),
        Subject::Pattern(pattern) => namespaces.of_pattern(pattern),
    }
}

/// Whether the token of a connection, or none, is enough to subscribe. Where each topic wants a token of its own, it
/// never is.
///
/// # Errors
///
/// What the client is told instead.
pub(super) fn may_subscribe(namespace: &Namespace, name: &str, user: Option<&User>) -> Result<(), Failure> {
    match namespace.subscribe {
        Access::Public => Ok(()),
        Access::Token => permitted(user, |user| &user.subscribe, name, "subscribing to"),
        Access::Signed if name.contains('*') => Err(Failure::new(
            ErrorCode::Forbidden,
            "each topic here wants a token of its own, so there are no patterns",
        )),
        Access::Signed => Err(Failure::new(ErrorCode::TokenRequired, "this topic wants a token of its own")),
        Access::Nobody => Err(Failure::new(ErrorCode::Forbidden, "clients may not subscribe to this topic")),
    }
}

/// Whether a client may publish.
///
/// # Errors
///
/// What it is told instead.
pub(super) fn may_publish(namespace: &Namespace, topic: &Topic, user: Option<&User>) -> Result<(), Failure> {
    match namespace.publish {
        Access::Public => Ok(()),
        Access::Token => permitted(user, |user| &user.publish, topic.as_str(), "publishing to"),
        // Tokens for one topic are for subscribing and for nothing else.
        Access::Signed | Access::Nobody => Err(Failure::new(ErrorCode::Forbidden, "clients may not publish here")),
    }
}

/// Whom subscribers are told as the publisher, if they are told.
pub(super) fn publisher(namespace: &Namespace, user: Option<&User>) -> Option<Arc<str>> {
    user.filter(|_| namespace.publisher).map(|user| user.member.user.clone())
}

/// What somebody new is told of the past: the last value, where that is what the namespace keeps.
pub(super) fn newcomers(namespace: &Namespace) -> Want {
    if namespace.keeps_last_value() { Want::Last } else { Want::Nothing }
}

/// The time by which tokens are judged.
pub(super) fn now(core: &Core<'_>) -> UnixSeconds {
    UnixSeconds(core.unix_time().as_secs())
}

fn permitted(user: Option<&User>, of: fn(&User) -> &Patterns, name: &str, what: &str) -> Result<(), Failure> {
    match user {
        None => Err(Failure::new(ErrorCode::TokenRequired, format!("{what} this topic needs a token"))),
        Some(user) if of(user).allow(name) => Ok(()),
        Some(_) => Err(Failure::new(ErrorCode::Forbidden, format!("the token does not allow {what} this topic"))),
    }
}

impl User {
    pub(super) fn new(identity: Identity) -> Self {
        let Identity { user, info, subscribe, publish, valid_until } = identity;
        Self {
            member: Member { user: user.into(), info: info_bytes(info) },
            valid_until,
            subscribe,
            publish,
            seat: None,
        }
    }

    /// A newer token has come. Where he is present already, others know him by what the old one said.
    pub(super) fn renew(&mut self, identity: Identity) {
        let (user, seat) = (self.member.user.clone(), self.seat.take());
        *self = Self::new(identity);
        // The same name, which his subscriptions share.
        self.member.user = user;
        self.seat = seat;
    }

    /// He has one connection more, if he may.
    pub(super) fn sit_down(&mut self, admission: &Admission) -> Result<(), Full> {
        self.seat = admission.seats.of_user(&self.member.user, admission.connections_per_user_max)?;
        Ok(())
    }

    /// His id.
    pub(super) fn name(&self) -> &str {
        &self.member.user
    }

    /// Whether this topic or pattern is among those that he may subscribe to.
    pub(super) fn is_granted(&self, name: &str) -> bool {
        self.subscribe.allow(name)
    }

    /// As whom he is present in a topic: the token for it may say something else of him.
    pub(super) fn member_with(&self, info: Option<Box<str>>) -> Member {
        match info {
            Some(info) => Member { user: self.member.user.clone(), info: info_bytes(Some(info)) },
            None => self.member.clone(),
        }
    }
}

impl Failure {
    pub(super) fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), retry_ms: None }
    }
}

impl From<TokenError> for Failure {
    /// What it says holds nothing of the token.
    fn from(error: TokenError) -> Self {
        let code = if error.is_expiry() { ErrorCode::TokenExpired } else { ErrorCode::TokenInvalid };
        Self::new(code, error.to_string())
    }
}

impl From<NameError> for Failure {
    fn from(error: NameError) -> Self {
        Self::new(ErrorCode::BadTopic, error.to_string())
    }
}

impl From<UnknownNamespace> for Failure {
    fn from(error: UnknownNamespace) -> Self {
        Self::new(ErrorCode::UnknownNamespace, error.to_string())
    }
}

fn info_bytes(info: Option<Box<str>>) -> Bytes {
    info.map_or_else(Bytes::new, |info| String::from(info).into())
}
