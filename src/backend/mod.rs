//! What the server tells its back end, and what it asks it: values and two traits.
//!
//! Knows not how either travels; `webhooks` carries both over HTTP.

mod event;
mod question;

pub use event::{Client, Event, EventKind, EventKinds, Observer};
pub use question::{Allowed, Decider, Denied, Overloaded, Question, Verdict, WhoAsks};
