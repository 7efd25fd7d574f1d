//! Clients whose URL says everything: topics, and a token where one is wanted.

use std::borrow::Cow;

use super::access::{self, Failure, User};
use super::admission::Admission;
use super::seats::Full;
use crate::auth::{TokenError, UnixSeconds};
use crate::handler::Core;
use crate::http::{QueryParams, Response};
use crate::topics::{Access, Namespaces, Subject};
use crate::wire::ErrorCode;

/// What a URL asks for, if all of it is permitted.
#[derive(Debug)]
pub(super) struct Admitted {
    /// Each once, at least one.
    pub(super) subjects: Box<[Subject]>,
    /// Whose token it is.
    pub(super) user: Option<User>,
    /// When the token expires, and the connection with it.
    pub(super) valid_until: Option<UnixSeconds>,
}

/// What a URL asks for.
#[derive(Debug)]
pub(super) struct Wish<'a> {
    /// Each once, at least one.
    pub(super) subjects: Box<[Subject]>,
    pub(super) token: Option<Cow<'a, str>>,
}

impl<'a> Wish<'a> {
    /// Reads `topic=…&topic=…&token=…`.
    ///
    /// # Errors
    ///
    /// The response that says what is wrong.
    pub(super) fn read(namespaces: &Namespaces, params: QueryParams<'a>) -> Result<Self, Response> {
        let subjects = subjects(namespaces, params.clone())?;
        let mut tokens = params.filter(|(key, _)| key == "token").map(|(_, token)| token);
        let token = tokens.next();
        if tokens.next().is_some() { Err(bad("more than one token")) } else { Ok(Self { subjects, token }) }
    }

    /// What it asks for, if a back end has let this user in, who may be nobody in particular.
    ///
    /// # Errors
    ///
    /// The response that says what is not permitted.
    pub(super) fn permitted(self, core: &Core<'_>, user: Option<&User>) -> Result<Box<[Subject]>, Response> {
        for subject in &self.subjects {
            let (namespace, name) = (access::namespace_of(core.namespaces(), subject), access::name_of(subject));
            // It has been asked about these topics, so its grant is as good as a token for one of them.
            let is_granted = namespace.subscribe == Access::Signed
                && matches!(subject, Subject::Topic(_))
                && user.is_some_and(|user| user.is_granted(name));
            if !is_granted {
                access::may_subscribe(namespace, name, user).map_err(refusal)?;
            }
        }
        Ok(self.subjects)
    }
}

impl Admission {
    /// Looks at `topic=…&topic=…&token=…`, where no back end decides: where one does, [`Serve`](super::Serve) asks it.
    ///
    /// # Errors
    ///
    /// The response that says what is wrong.
    pub(super) fn admit_unasked(&self, core: &Core<'_>, params: QueryParams<'_>) -> Result<Admitted, Response> {
        let Wish { subjects, token } = Wish::read(core.namespaces(), params)?;
        let mut admitted = self.check(core, subjects, token).map_err(refusal)?;
        if let Some(user) = &mut admitted.user {
            user.sit_down(self).map_err(|Full| too_many("This user has"))?;
        }
        Ok(admitted)
    }

    fn check(
        &self,
        core: &Core<'_>,
        subjects: Box<[Subject]>,
        token: Option<Cow<'_, str>>,
    ) -> Result<Admitted, Failure> {
        let now = access::now(core);
        // Where there are no keys nothing can want a token.
        let token = token.as_deref().zip(self.verifier.as_ref());
        let mut topic_token = None;
        let user = match token.map(|(token, verifier)| (token, verifier.connection(token, now))) {
            Some((_, Ok(identity))) => Some(User::new(identity)),
            Some((token, Err(TokenError::NotForConnecting))) => {
                topic_token = Some(token);
                None
            }
            Some((_, Err(error))) => return Err(error.into()),
            None => None,
        };
        if user.is_none() {
            self.anonymous()?;
        }
        let (mut valid_until, mut is_used) = (user.as_ref().and_then(|user| user.valid_until), topic_token.is_none());
        for subject in &subjects {
            let namespace = access::namespace_of(core.namespaces(), subject);
            match (subject, topic_token) {
                (Subject::Topic(topic), Some(token)) if namespace.subscribe == Access::Signed => {
                    valid_until = self.subscription(token, topic.as_str(), None, now)?.valid_until;
                    is_used = true;
                }
                _ => access::may_subscribe(namespace, access::name_of(subject), user.as_ref())?,
            }
        }
        if !is_used {
            return Err(TokenError::NotForConnecting.into());
        }
        Ok(Admitted { subjects, user, valid_until })
    }
}

fn subjects(namespaces: &Namespaces, params: QueryParams<'_>) -> Result<Box<[Subject]>, Response> {
    let mut subjects = Vec::new();
    for (_, name) in params.filter(|(key, _)| key == "topic") {
        let subject = access::known_subject(namespaces, &name).map_err(refusal)?;
        if !subjects.contains(&subject) {
            subjects.push(subject);
        }
        if subjects.len() > SUBJECTS_MAX {
            return Err(bad(&format!("more than {SUBJECTS_MAX} topics")));
        }
    }
    if subjects.is_empty() { Err(bad("no topic")) } else { Ok(subjects.into()) }
}

fn bad(what: &str) -> Response {
    Response::text(400, format!("Not subscribed: {what}. Ask for them as in ?topic=NAME&topic=NAME.\n"))
}

/// A user, or an address, has as many connections as he may.
pub(super) fn too_many(whose: &str) -> Response {
    Response::text(429, format!("{whose} as many connections as there may be. Try again later.\n"))
}

/// What a failure is called in HTTP.
fn refusal(failure: Failure) -> Response {
    let text = format!("Not subscribed: {}.\n", failure.message);
    match failure.code {
        ErrorCode::BadTopic => bad(&failure.message),
        ErrorCode::UnknownNamespace => Response::text(404, text),
        ErrorCode::TokenRequired | ErrorCode::TokenInvalid | ErrorCode::TokenExpired => {
            // A 401 names a way to do it right (RFC 9110 §11.6.1).
            Response::text(401, text).header("WWW-Authenticate", "Bearer").expect("a good header")
        }
        _ => Response::text(403, text),
    }
}

/// Most topics and patterns in one URL.
const SUBJECTS_MAX: usize = 32;
