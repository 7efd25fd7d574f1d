//! The last publications of a topic, bounded by number, bytes and age.

use std::collections::VecDeque;

use super::super::moment::Moment;
use super::super::namespace::Namespace;
use super::super::publication::Publication;

/// Publications without a gap, oldest first.
#[derive(Debug, Default)]
pub(super) struct History {
    kept: VecDeque<Kept>,
    /// Of content.
    bytes: usize,
}

#[derive(Debug)]
struct Kept {
    published_at: Moment,
    publication: Publication,
}

impl History {
    /// Keeps the next publication, and forgets what the bounds do not allow any more: that may be all.
    pub(super) fn push(&mut self, publication: Publication, bounds: &Namespace, now: Moment) {
        if bounds.history_messages == 0 {
            return self.clear();
        }
        self.bytes += publication.draft.bytes();
        self.kept.push_back(Kept { published_at: now, publication });
        self.trim(bounds, now);
    }

    /// Forgets what the bounds do not allow at this moment.
    pub(super) fn trim(&mut self, bounds: &Namespace, now: Moment) {
        while let Some(oldest) = self.kept.front() {
            let is_kept = self.kept.len() <= bounds.history_messages
                && self.bytes <= bounds.history_bytes
                && oldest.published_at.after(bounds.history_ttl) > now;
            if is_kept {
                return;
            }
            self.bytes -= oldest.publication.draft.bytes();
            self.kept.pop_front();
        }
        self.clear();
    }

    /// When the oldest becomes too old.
    pub(super) fn deadline(&self, bounds: &Namespace) -> Option<Moment> {
        self.kept.front().map(|kept| kept.published_at.after(bounds.history_ttl))
    }

    /// The oldest offset.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.kept.front().map(|kept| kept.publication.offset)
    }

    /// The newest publication.
    pub(super) fn last(&self) -> Option<&Publication> {
        self.kept.back().map(|kept| &kept.publication)
    }

    /// What is kept of those after `offset`, oldest first.
    pub(super) fn since(&self, offset: u64) -> impl ExactSizeIterator<Item = &Publication> {
        let skip = self.oldest().map_or(0, |oldest| (offset + 1).saturating_sub(oldest));
        let skip = usize::try_from(skip).unwrap_or(usize::MAX).min(self.kept.len());
        self.kept.range(skip..).map(|kept| &kept.publication)
    }

    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    /// Bytes of content.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Also gives the memory back.
    fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::super::super::publication::{DataKind, Draft};
    use super::*;

    fn publication(offset: u64, len: usize) -> Publication {
        let draft = Draft { kind: DataKind::Binary, data: Bytes::from(vec![0; len]), key: None, publisher: None };
        Publication { offset, draft }
    }

    fn offsets(history: &History, since: u64) -> Vec<u64> {
        history.since(since).map(|publication| publication.offset).collect()
    }

    #[test]
    fn each_bound_forgets_the_oldest() {
        let bounds = Namespace {
            history_messages: 5,
            history_bytes: 1000,
            history_ttl: Duration::from_millis(100),
            ..Namespace::default()
        };
        let mut history = History::default();
        for offset in 1..=8 {
            history.push(publication(offset, 10), &bounds, Moment(offset));
        }
        assert_eq!((offsets(&history, 0), history.bytes(), history.oldest()), (vec![4, 5, 6, 7, 8], 50, Some(4)));
        assert_eq!((offsets(&history, 6), offsets(&history, 8), offsets(&history, 99)), (vec![7, 8], vec![], vec![]));
        history.push(publication(9, 985), &bounds, Moment(9));
        assert_eq!((offsets(&history, 0), history.bytes()), (vec![8, 9], 995));
        history.trim(&bounds, Moment(107));
        assert_eq!(history.len(), 2);
        assert_eq!(history.deadline(&bounds), Some(Moment(108)));
        history.trim(&bounds, Moment(108));
        assert_eq!(offsets(&history, 0), [9]);
        history.push(publication(10, 1001), &bounds, Moment(108));
        assert_eq!(
            (history.len(), history.bytes(), history.oldest()),
            (0, 0, None),
            "nothing may be kept before a gap"
        );
    }

    #[test]
    fn without_history_nothing_is_kept() {
        let bounds = Namespace { history_messages: 0, ..Namespace::default() };
        let mut history = History::default();
        history.push(publication(1, 10), &bounds, Moment(0));
        assert_eq!((history.len(), history.bytes(), history.last()), (0, 0, None));
    }
}
