//! Subscriptions that wait for the home to say where their topic stands.
//!
//! A core has at most one question about a topic under way. All that come meanwhile wait for its answer: one that says
//! what came after offset 10 serves everybody who was further. So when thousands come back at once, the home is asked
//! a few times.
//!
//! No publication needs to be held back meanwhile. What one core says to another arrives in order, so when the answer
//! comes, everything up to its position has come before it, and everything else comes later: until the answer the
//! subscription hears nothing, with it what it missed, and after it everything.

use super::super::interest::SubscriberId;
use super::super::message::{Ticket, Want};
use super::super::moment::Moment;
use super::super::position::{Horizon, NotRecovered, Position};
use super::super::publication::Publication;

/// A question that is under way, and who waits for its answer.
#[derive(Debug)]
pub(super) struct Asking {
    pub(super) ticket: Ticket,
    /// Asked again then, if there was no answer.
    pub(super) retry_at: Moment,
    pub(super) want: Want,
    /// Whether this core has missed something: then those who hear the topic already wait as well.
    pub(super) is_behind: bool,
    pub(super) waiters: Vec<Waiter>,
}

/// A subscription that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiter {
    pub(super) subscriber: SubscriberId,
    pub(super) want: Want,
    /// Whether it came when the question was under way already.
    pub(super) is_late: bool,
}

/// Whether a subscriber that came back was told what it missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// It did not ask.
    NotAsked,
    /// All of it.
    Recovered,
    /// Not all of it: where the namespace keeps a last value that is all it is told, and elsewhere nothing.
    NotRecovered(NotRecovered),
}

/// What a home has answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told<'a> {
    /// To which question.
    pub(super) asked: Want,
    pub(super) horizon: Horizon,
    pub(super) publications: &'a [Publication],
    /// Whether the namespace keeps a last value for those who cannot be told what they missed.
    pub(super) keeps_last_value: bool,
}

impl Asking {
    /// What to ask so that as many as possible are served. `position` is where this core itself has stopped, if it is
    /// behind.
    pub(super) fn question(position: Option<Position>, waiters: &[Waiter]) -> Want {
        let since = |want: Want| match want {
            Want::Since(since) => Some(since),
            Want::Nothing | Want::Last => None,
        };
        let all = || position.into_iter().chain(waiters.iter().filter_map(|waiter| since(waiter.want)));
        if let Some(first) = all().next() {
            // Those of other epochs are served by any answer: the topic has only one.
            let earliest = all().filter(|other| other.epoch == first.epoch).min();
            return Want::Since(earliest.unwrap_or(first));
        }
        let wants_last = waiters.iter().any(|waiter| waiter.want == Want::Last);
        if wants_last { Want::Last } else { Want::Nothing }
    }
}

impl<'a> Told<'a> {
    /// What this answer says to somebody who wants to know this; `None` if that must be asked for again.
    pub(super) fn serve(&self, waiter: &Waiter) -> Option<(Recovery, &'a [Publication])> {
        match waiter.want {
            Want::Nothing => Some((Recovery::NotAsked, &[])),
            Want::Last => self.last().map(|last| (Recovery::NotAsked, last)),
            Want::Since(since) => match self.horizon.recovers(since) {
                Ok(()) => self.since(since).map(|missed| (Recovery::Recovered, missed)),
                // On another core it has heard what came after this answer had been sent.
                Err(NotRecovered::Ahead) if waiter.is_late => None,
                Err(why) if self.keeps_last_value => self.last().map(|last| (Recovery::NotRecovered(why), last)),
                Err(why) => Some((Recovery::NotRecovered(why), &[])),
            },
        }
    }

    /// What came after `since`, which can be recovered; `None` if this answer begins later.
    pub(super) fn since(&self, since: Position) -> Option<&'a [Publication]> {
        if since == self.horizon.position {
            return Some(&[]);
        }
        match self.asked {
            Want::Since(asked) if asked.offset <= since.offset && self.horizon.recovers(asked).is_ok() => {
                let skip = self.publications.partition_point(|publication| publication.offset <= since.offset);
                Some(&self.publications[skip..])
            }
            Want::Since(_) | Want::Last | Want::Nothing => None,
        }
    }

    fn last(&self) -> Option<&'a [Publication]> {
        let is_kept = self.horizon.oldest <= self.horizon.position.offset;
        match self.publications.last() {
            Some(last) => Some(std::slice::from_ref(last)),
            None if !is_kept || self.asked == Want::Last => Some(&[]),
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::super::position::Epoch;
    use super::super::super::publication::{DataKind, Draft};
    use super::*;

    fn at(epoch: u64, offset: u64) -> Position {
        Position { epoch: Epoch::new(epoch), offset }
    }

    fn since(offset: u64) -> Want {
        Want::Since(at(1, offset))
    }

    fn waiters(wants: &[Want]) -> Vec<Waiter> {
        wants.iter().map(|&want| Waiter { subscriber: SubscriberId(0), want, is_late: false }).collect()
    }

    #[test]
    fn one_question_serves_as_many_as_it_can() {
        let other = Want::Since(at(2, 1));
        let cases = [
            (None, &[][..], Want::Nothing),
            (None, &[Want::Nothing, Want::Last], Want::Last),
            (None, &[Want::Last, since(7), since(5), since(6)], since(5)),
            (None, &[since(7), other, since(6)], since(6)),
            (None, &[other, since(6)], other),
            (Some(at(1, 4)), &[other, since(6)], since(4)),
            (Some(at(1, 8)), &[other, since(6)], since(6)),
        ];
        for (position, wants, want) in cases {
            assert_eq!(Asking::question(position, &waiters(wants)), want, "{position:?} {wants:?}");
        }
    }

    #[test]
    fn an_answer_serves_whom_it_can() {
        let publications: Vec<_> = (6..=9)
            .map(|offset| {
                let draft = Draft { kind: DataKind::Text, data: Bytes::new(), key: None, publisher: None };
                Publication { offset, draft }
            })
            .collect();
        let horizon = Horizon { position: at(1, 9), oldest: 3 };
        let serve = |asked, want| {
            let publications = match asked {
                Want::Nothing => &[],
                Want::Last => &publications[3..],
                Want::Since(_) => &publications[..],
            };
            let told = Told { asked, horizon, publications, keeps_last_value: false };
            let served = told.serve(&waiters(&[want])[0]);
            served.map(|(recovery, missed)| (recovery, missed.iter().map(|missed| missed.offset).collect::<Vec<_>>()))
        };
        use Recovery::{NotAsked, Recovered};
        let not = |why| Some((Recovery::NotRecovered(why), vec![]));
        let cases = [
            (Want::Nothing, Want::Nothing, Some((NotAsked, vec![]))),
            (Want::Nothing, Want::Last, None),
            (Want::Last, Want::Last, Some((NotAsked, vec![9]))),
            (since(5), Want::Last, Some((NotAsked, vec![9]))),
            (since(5), since(5), Some((Recovered, vec![6, 7, 8, 9]))),
            (since(5), since(7), Some((Recovered, vec![8, 9]))),
            (since(5), since(9), Some((Recovered, vec![]))),
            (Want::Nothing, since(9), Some((Recovered, vec![]))),
            (Want::Nothing, since(8), None),
            (since(5), since(4), None),
            (since(5), since(2), None),
            (since(5), since(1), not(NotRecovered::NotKept)),
            (Want::Last, since(10), not(NotRecovered::Ahead)),
            (Want::Nothing, Want::Since(at(2, 9)), not(NotRecovered::EpochChanged)),
        ];
        for (asked, want, served) in cases {
            assert_eq!(serve(asked, want), served, "{asked:?} {want:?}");
        }
        let late = Waiter { is_late: true, ..waiters(&[since(10)])[0] };
        let told = Told { asked: since(5), horizon, publications: &publications, keeps_last_value: false };
        assert_eq!(told.serve(&late), None, "it may know more than this answer");
    }

    #[test]
    fn whose_recovery_fails_gets_the_last_value_where_one_is_kept() {
        let draft = Draft { kind: DataKind::Text, data: Bytes::new(), key: None, publisher: None };
        let last = [Publication { offset: 9, draft }];
        let kept = Horizon { position: at(1, 9), oldest: 9 };
        let gone = Horizon { oldest: 10, ..kept };
        let other = Want::Since(at(2, 4));
        let not = |why, missed: &'static [u64]| Some((Recovery::NotRecovered(why), missed.to_vec()));
        let cases = [
            (kept, since(5), &last[..], since(5), not(NotRecovered::NotKept, &[9])),
            (kept, since(5), &last, other, not(NotRecovered::EpochChanged, &[9])),
            (kept, since(8), &last, since(6), not(NotRecovered::NotKept, &[9])),
            (kept, Want::Last, &last, since(10), not(NotRecovered::Ahead, &[9])),
            // These answers say nothing of the past: it must be asked for again.
            (kept, Want::Nothing, &[], since(5), None),
            (kept, since(9), &[], other, None),
            (gone, Want::Nothing, &[], since(5), not(NotRecovered::NotKept, &[])),
            (gone, since(5), &[], other, not(NotRecovered::EpochChanged, &[])),
        ];
        for (horizon, asked, publications, want, served) in cases {
            let told = Told { asked, horizon, publications, keeps_last_value: true };
            let got = told.serve(&waiters(&[want])[0]);
            let got =
                got.map(|(recovery, missed)| (recovery, missed.iter().map(|missed| missed.offset).collect::<Vec<_>>()));
            assert_eq!(got, served, "{horizon:?} {asked:?} {want:?}");
        }
    }
}
