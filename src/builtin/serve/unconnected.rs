//! Clients of `corewire.v1` that must say `connect` soon.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use crate::handler::ConnId;

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
