//! What a back end is asked before a client may do something, and its verdict.

use std::net::IpAddr;
use std::time::Duration;

use crate::handler::{ConnHandle, Deferred};
use crate::ids::ConnId;

/// May it?
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Be connected.
    Connect {
        /// The connection's name.
        connection: ConnId,
        /// The client's own address, as far as it is known.
        address: Option<IpAddr>,
        /// What it speaks: a subprotocol, or `raw`.
        protocol: &'static str,
        /// The token that it showed, not looked into.
        token: Option<Box<str>>,
        /// What its URL asks to subscribe to; of others nothing is known yet.
        topics: Vec<Box<str>>,
    },
    /// Subscribe to a topic that neither its namespace nor an earlier verdict opens to it.
    Subscribe {
        /// The connection's name.
        connection: ConnId,
        /// Who it is; `None` for nobody in particular.
        user: Option<Box<str>>,
        /// Its name.
        topic: Box<str>,
        /// The token that it showed for this topic, not looked into.
        token: Option<Box<str>>,
    },
}

/// What the back end says.
pub type Verdict = Result<Allowed, Denied>;

/// It may.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Who it is, in 1 to 255 bytes; nobody in particular if there is none, and then nothing else is granted to a
    /// connection. To a subscription, only `info` and `expires_in` are.
    pub user: Option<Box<str>>,
    /// What others see of it in presence: a JSON object.
    pub info: Option<Box<str>>,
    /// For how long; `None` for as long as it is connected.
    pub expires_in: Option<Duration>,
    /// Topics and patterns that it may subscribe to, beyond what everybody may.
    pub subscribe: Vec<Box<str>>,
    /// Topics and patterns that it may publish to, beyond what everybody may.
    pub publish: Vec<Box<str>>,
}

/// It may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The back end said so.
    Refused {
        /// The connection is to be closed with this code, 4000 to 4999.
        code: Option<u16>,
        /// For the client.
        reason: Box<str>,
    },
    /// The back end gave no answer, not in time, or one that cannot be read: nobody knows.
    Unavailable,
}

/// To whom the verdict goes.
pub enum WhoAsks {
    /// A client whose request is to be answered; the verdict is given to `Handler::upgrade_deferred`.
    Upgrade(Deferred),
    /// A client that is open; the verdict is given to `Handler::told`.
    Connection(ConnHandle),
}

/// Too many questions are waiting already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many questions to the back end are waiting")]
pub struct Overloaded;

/// Asks the back end. Called on the cores' own threads: it must not block.
pub trait Decider: Send + Sync + 'static {
    /// Answers each question once, within a bounded time, whatever the back end does.
    ///
    /// # Errors
    ///
    /// [`Overloaded`] if it does not even ask; whoever asks has to refuse then.
    fn decide(&self, question: Question, asks: WhoAsks) -> Result<(), Overloaded>;
}
