//! Questions that go to several cores, whose answers are added up.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::message::{Answer, Counts, Party, Receipt, ReceiptId, Tally, Ticket, TopicInfo};
use super::super::moment::Moment;
use super::super::placement::CoreSet;
use super::super::position::Position;

/// Questions that wait for answers. All may wait equally long, so their numbers are also the order of their deadlines.
#[derive(Debug)]
pub(super) struct Receipts {
    open: BTreeMap<ReceiptId, Open>,
    next: u64,
    open_max: usize,
    wait: Duration,
}

/// Who asked, and what.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) asker: Party,
    pub(super) ticket: Ticket,
    pub(super) about: About,
}

/// What the counts are for.
#[derive(Debug)]
pub(super) enum About {
    Published(Position),
    Info(TopicInfo),
}

#[derive(Debug)]
struct Open {
    question: Question,
    waiting: CoreSet,
    tally: Tally,
    give_up_at: Moment,
}

impl Receipts {
    pub(super) fn new(open_max: usize, wait: Duration) -> Self {
        Self { open: BTreeMap::new(), next: 0, open_max, wait }
    }

    /// Opens one that waits for these cores.
    ///
    /// # Errors
    ///
    /// The answer at once if there is nobody to wait for, or no room to wait: then all of them are silent.
    pub(super) fn open(
        &mut self,
        question: Question,
        waiting: CoreSet,
        now: Moment,
    ) -> Result<ReceiptId, Box<(Party, Ticket, Answer)>> {
        let open = Open { question, waiting, tally: Tally::default(), give_up_at: now.after(self.wait) };
        if waiting.is_empty() || self.open.len() >= self.open_max {
            return Err(Box::new(open.answer()));
        }
        let id = ReceiptId(self.next);
        self.next += 1;
        self.open.insert(id, open);
        Ok(id)
    }

    /// A core has answered. If it was the last one, that is the answer to the question.
    pub(super) fn add(&mut self, id: ReceiptId, core: usize, tally: Tally) -> Option<(Party, Ticket, Answer)> {
        let open = self.open.get_mut(&id)?;
        if open.waiting.remove(core) {
            open.tally.add(tally);
        }
        if !open.waiting.is_empty() {
            return None;
        }
        self.open.remove(&id).map(Open::answer)
    }

    /// The next question that has waited long enough.
    pub(super) fn expire(&mut self, now: Moment) -> Option<(Party, Ticket, Answer)> {
        let first = self.open.first_entry()?;
        (first.get().give_up_at <= now).then(|| first.remove().answer())
    }

    /// When [`Receipts::expire`] has something to do.
    pub(super) fn deadline(&self) -> Option<Moment> {
        self.open.first_key_value().map(|(_, open)| open.give_up_at)
    }
}

impl Open {
    fn answer(self) -> (Party, Ticket, Answer) {
        let counts = Counts { tally: self.tally, silent: self.waiting.iter().collect() };
        let answer = match self.question.about {
            About::Published(position) => {
                Answer::Published(Receipt { position, counts: Some(counts), is_repeat: false })
            }
            About::Info(info) => Answer::Info(TopicInfo { counts, ..info }),
        };
        (self.question.asker, self.question.ticket, answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TALLY: Tally = Tally { subscribers: 5, delivered: 4, conflated: 2, dropped: 1 };

    fn question(ticket: u64) -> Question {
        Question { asker: Party::Outside, ticket: Ticket(ticket), about: About::Info(TopicInfo::default()) }
    }

    fn counts(answered: Option<(Party, Ticket, Answer)>) -> (u64, Counts) {
        match answered {
            Some((Party::Outside, Ticket(ticket), Answer::Info(info))) => (ticket, info.counts),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn answers_are_added_up() {
        let mut receipts = Receipts::new(10, Duration::from_millis(100));
        let id = receipts.open(question(7), CoreSet::first(3), Moment(0)).expect("it waits");
        assert_eq!(receipts.add(id, 0, TALLY), None);
        assert_eq!(receipts.add(id, 0, TALLY), None, "said twice");
        assert_eq!(receipts.add(id, 2, TALLY), None);
        let want = Tally { subscribers: 15, delivered: 12, conflated: 6, dropped: 3 };
        assert_eq!(counts(receipts.add(id, 1, TALLY)), (7, Counts { tally: want, silent: vec![] }));
        assert_eq!((receipts.add(id, 1, TALLY), receipts.deadline()), (None, None));
    }

    #[test]
    fn a_core_that_does_not_answer_in_time_is_named() {
        let mut receipts = Receipts::new(2, Duration::from_millis(100));
        let first = receipts.open(question(1), CoreSet::first(3), Moment(0)).expect("it waits");
        receipts.open(question(2), CoreSet::first(1), Moment(50)).expect("it waits");
        let full = receipts.open(question(3), CoreSet::first(2), Moment(50)).expect_err("only two may wait");
        assert_eq!(counts(Some(*full)), (3, Counts { tally: Tally::default(), silent: vec![0, 1] }));
        let nobody = receipts.open(question(4), CoreSet::default(), Moment(50)).expect_err("nobody to wait for");
        assert_eq!(counts(Some(*nobody)), (4, Counts::default()));
        assert_eq!(receipts.add(first, 1, TALLY), None);
        assert_eq!((receipts.deadline(), receipts.expire(Moment(99))), (Some(Moment(100)), None));
        assert_eq!(counts(receipts.expire(Moment(100))), (1, Counts { tally: TALLY, silent: vec![0, 2] }));
        assert_eq!(receipts.expire(Moment(149)), None);
        assert_eq!(counts(receipts.expire(Moment(150))).1.silent, [0]);
    }
}
