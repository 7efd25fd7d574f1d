//! Who may do what. Nobody has a token here, so what is not public is for nobody.

use crate::topics::{Access, Namespace, Pattern, Subject, Topic, Want};
use crate::wire::ErrorCode;

/// A topic or a pattern by its name.
///
/// # Errors
///
/// What is wrong with the name.
pub(super) fn subject(name: &str) -> Result<Subject, crate::topics::NameError> {
    if name.contains('*') { Pattern::parse(name).map(Subject::Pattern) } else { Topic::parse(name).map(Subject::Topic) }
}

/// Whether a client without a token has this right.
///
/// # Errors
///
/// What it is told instead.
pub(super) fn check(access: Access) -> Result<(), ErrorCode> {
    match access {
        Access::Public => Ok(()),
        Access::Token | Access::Signed => Err(ErrorCode::TokenRequired),
        Access::Nobody => Err(ErrorCode::Forbidden),
    }
}

/// What somebody new is told of the past: the last value, where that is what the namespace keeps.
pub(super) fn newcomers(namespace: &Namespace) -> Want {
    if namespace.history_messages == 1 { Want::Last } else { Want::Nothing }
}
