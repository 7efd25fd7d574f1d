//! Which connection subscribes to what: arithmetic that all workers agree on.

/// The subscriptions of a run, divided among its connections as evenly as it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hall {
    pub(crate) topics: u64,
    /// Of all topics together.
    pub(crate) subscriptions: u64,
    /// Connections that subscribe.
    pub(crate) connections: u64,
}

impl Hall {
    /// The subscriptions of a connection: numbers among all.
    pub(super) fn seats_of(self, connection: u64) -> std::ops::Range<u64> {
        let first = |connection: u64| {
            self.subscriptions / self.connections * connection + connection.min(self.subscriptions % self.connections)
        };
        first(connection)..first(connection + 1)
    }

    /// The topic of a subscription. Neighbours differ.
    pub(super) fn topic(self, seat: u64) -> u64 {
        seat % self.topics
    }

    /// Which of a connection's subscriptions, from zero on, is to `topic`.
    pub(super) fn find(self, seats: &std::ops::Range<u64>, topic: u64) -> Option<u64> {
        if topic >= self.topics {
            return None;
        }
        let within = (topic + self.topics - seats.start % self.topics) % self.topics;
        (within < seats.end - seats.start).then_some(within)
    }

    /// The most subscriptions that one connection has.
    pub(crate) fn per_connection(self) -> u64 {
        self.subscriptions.div_ceil(self.connections)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_topics_get_their_subscribers_and_no_connection_one_topic_twice() {
        for (topics, each, connections) in [(1, 7, 7), (10, 10, 100), (12, 10, 30), (100, 10, 7 * 10), (5, 3, 4)] {
            let hall = Hall { topics, subscriptions: topics * each, connections };
            let mut heard = vec![0; topics as usize];
            let mut next = 0;
            for connection in 0..connections {
                let seats = hall.seats_of(connection);
                assert_eq!(seats.start, next);
                next = seats.end;
                assert!(seats.end - seats.start <= hall.per_connection());
                let topics_of: Vec<u64> = seats.clone().map(|seat| hall.topic(seat)).collect();
                for (at, &topic) in topics_of.iter().enumerate() {
                    heard[topic as usize] += 1;
                    assert_eq!(hall.find(&seats, topic), Some(at as u64), "{hall:?}");
                }
                for topic in (0..topics + 2).filter(|topic| !topics_of.contains(topic)) {
                    assert_eq!(hall.find(&seats, topic), None, "{hall:?}");
                }
            }
            assert_eq!(next, topics * each);
            assert!(heard.iter().all(|&count| count == each), "{hall:?}: {heard:?}");
        }
    }
}
