//! When tokens expire, the earliest first.

use std::collections::BTreeSet;

use crate::auth::UnixSeconds;
use crate::handler::ConnId;
use crate::topics::Topic;

/// The tokens of one core's connections that have an end.
#[derive(Debug, Default)]
pub(super) struct Expiries(BTreeSet<Expiry>);

/// What ends, and when.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Expiry {
    at: UnixSeconds,
    conn: ConnId,
    /// The subscription that a token of its own was for; `None`: the connection.
    topic: Option<Topic>,
}

impl Expiries {
    /// The token of a connection, or of its subscription to a topic.
    pub(super) fn add(&mut self, conn: ConnId, topic: Option<&Topic>, at: Option<UnixSeconds>) {
        if let Some(at) = at {
            self.0.insert(Expiry { at, conn, topic: topic.cloned() });
        }
    }

    /// It was renewed, or what it was for is over.
    pub(super) fn remove(&mut self, conn: ConnId, topic: Option<&Topic>, at: Option<UnixSeconds>) {
        if let Some(at) = at {
            self.0.remove(&Expiry { at, conn, topic: topic.cloned() });
        }
    }

    /// What has expired by now, taken out.
    pub(super) fn pop(&mut self, now: UnixSeconds) -> Option<(ConnId, Option<Topic>)> {
        self.0.first().filter(|first| first.at <= now)?;
        self.0.pop_first().map(|Expiry { conn, topic, .. }| (conn, topic))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_renewed_expires_once_and_in_order() {
        let mut expiries = Expiries::default();
        let conn = |index| ConnId { core: 0, index, generation: 0 };
        let topic = Topic::parse("a").expect("a good name");
        let at = |seconds| Some(UnixSeconds(seconds));
        expiries.add(conn(1), None, at(20));
        expiries.add(conn(1), Some(&topic), at(10));
        expiries.add(conn(2), None, at(10));
        expiries.add(conn(3), None, at(10));
        expiries.add(conn(4), None, None);
        expiries.remove(conn(2), None, at(10));
        expiries.add(conn(2), None, at(30));
        expiries.remove(conn(4), None, None);
        assert_eq!(expiries.pop(UnixSeconds(9)), None);
        assert_eq!(expiries.pop(UnixSeconds(10)), Some((conn(1), Some(topic))));
        assert_eq!(expiries.pop(UnixSeconds(10)), Some((conn(3), None)));
        assert_eq!(expiries.pop(UnixSeconds(19)), None);
        assert_eq!(expiries.pop(UnixSeconds(99)), Some((conn(1), None)));
        assert_eq!(expiries.pop(UnixSeconds(99)), Some((conn(2), None)));
        assert_eq!(expiries.pop(UnixSeconds(u64::MAX)), None);
    }
}
