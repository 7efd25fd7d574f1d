//! Which publication is whose, and to which topic: arithmetic that all workers agree on without a word.
//!
//! Servers keep the order of what one connection says, and promise nothing about two. So messages are numbered by
//! publisher and topic, and only within those is order expected.

/// The publishers and topics of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Numbering {
    pub(super) publishers: u64,
    pub(super) topics: u64,
}

/// One publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Publication {
    pub(super) publisher: u64,
    /// Its number among all of its publisher.
    pub(super) number: u64,
}

impl Numbering {
    /// Publication `n` of a plan in which the publishers take turns.
    pub(super) fn nth(self, n: u64) -> Publication {
        Publication { publisher: n % self.publishers, number: n / self.publishers }
    }

    /// The place of a publication in such a plan.
    pub(super) fn place(self, publication: Publication) -> u64 {
        publication.number * self.publishers + publication.publisher
    }

    /// How many of the first `count` of such a plan are `publisher`'s.
    pub(super) fn turns(self, publisher: u64, count: u64) -> u64 {
        count.saturating_sub(publisher).div_ceil(self.publishers)
    }

    /// Each publisher goes through all topics, each from another one on.
    pub(super) fn topic(self, publication: Publication) -> u64 {
        (publication.number + publication.publisher) % self.topics
    }

    /// What a message of this publication is stamped with: an origin, and the number there.
    pub(super) fn stamp(self, publication: Publication) -> (u32, u64) {
        let origin = publication.publisher * self.topics + self.topic(publication);
        (origin as u32, publication.number / self.topics)
    }

    /// The publication that was stamped so; `None` if none ever is.
    pub(super) fn of_stamp(self, origin: u32, sequence: u64) -> Option<Publication> {
        let (publisher, topic) = (u64::from(origin) / self.topics, u64::from(origin) % self.topics);
        let number = sequence.checked_mul(self.topics)?.checked_add(self.first_to(publisher, topic))?;
        (publisher < self.publishers).then_some(Publication { publisher, number })
    }

    /// How many of the first `count` publications of `publisher` go to `topic`.
    pub(super) fn count_to(self, publisher: u64, topic: u64, count: u64) -> u64 {
        count.saturating_sub(self.first_to(publisher, topic)).div_ceil(self.topics)
    }

    /// The number of the first publication of `publisher` to `topic`.
    fn first_to(self, publisher: u64, topic: u64) -> u64 {
        (topic + self.topics - publisher % self.topics) % self.topics
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_lead_back_to_their_publication_and_count_without_gaps() {
        for (publishers, topics) in [(1, 1), (1, 7), (8, 1), (3, 5), (8, 4), (4, 8)] {
            let numbering = Numbering { publishers, topics };
            let mut next = std::collections::BTreeMap::new();
            for n in 0..500 {
                let publication = numbering.nth(n);
                assert_eq!(numbering.place(publication), n);
                let (origin, sequence) = numbering.stamp(publication);
                assert_eq!(numbering.of_stamp(origin, sequence), Some(publication));
                let want: &mut u64 = next.entry((publication.publisher, numbering.topic(publication))).or_default();
                assert_eq!(sequence, *want, "{publishers} publishers, {topics} topics, {n}");
                *want += 1;
            }
            for publisher in 0..publishers {
                let count = numbering.turns(publisher, 500);
                let sum: u64 = (0..topics).map(|topic| numbering.count_to(publisher, topic, count)).sum();
                assert_eq!(sum, count);
                for topic in 0..topics {
                    let seen = next.get(&(publisher, topic)).copied().unwrap_or(0);
                    assert_eq!(numbering.count_to(publisher, topic, count), seen);
                }
            }
            assert_eq!(numbering.of_stamp((publishers * topics) as u32, 0), None);
        }
    }
}
