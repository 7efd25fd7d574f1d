//! What the handler has asked homes, and until when the answers are waited for.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use crate::topics::{Moment, Refused, Ticket};

/// Questions that are not answered yet.
#[derive(Debug, Default)]
pub(super) struct Questions {
    given: u64,
    waiting: HashSet<Ticket>,
    /// All wait equally long, so they are in order; answered ones may remain.
    deadlines: VecDeque<(Moment, Ticket)>,
}

impl Questions {
    /// A number for another question.
    ///
    /// # Errors
    ///
    /// If too many are waiting.
    pub(super) fn ask(&mut self, now: Moment) -> Result<Ticket, Refused> {
        if self.deadlines.len() >= QUESTIONS_MAX {
            return Err(Refused::Busy);
        }
        self.given += 1;
        let ticket = Ticket(self.given);
        self.waiting.insert(ticket);
        self.deadlines.push_back((now.after(ANSWER_WAIT), ticket));
        Ok(ticket)
    }

    /// The answer is there, or will not be asked for after all. Answers whether it was waited for.
    pub(super) fn settle(&mut self, ticket: Ticket) -> bool {
        let was_waiting = self.waiting.remove(&ticket);
        while self.deadlines.pop_front_if(|(_, oldest)| !self.waiting.contains(oldest)).is_some() {}
        was_waiting
    }

    /// The next question that has waited too long.
    pub(super) fn expire(&mut self, now: Moment) -> Option<Ticket> {
        let (_, ticket) = self.deadlines.front().copied().filter(|(at, _)| *at <= now)?;
        self.settle(ticket);
        Some(ticket)
    }

    /// When the oldest has waited too long.
    pub(super) fn deadline(&self) -> Option<Moment> {
        self.deadlines.front().map(|(at, _)| *at)
    }
}

/// Longer than a home waits for the counts of other cores.
const ANSWER_WAIT: Duration = Duration::from_secs(3);
/// On one core.
const QUESTIONS_MAX: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_answered_once_or_expires_once() {
        let mut questions = Questions::default();
        let first = questions.ask(Moment(0)).unwrap();
        let second = questions.ask(Moment(10)).unwrap();
        let third = questions.ask(Moment(10)).unwrap();
        assert!(questions.settle(second) && !questions.settle(second));
        assert_eq!((questions.expire(Moment(2999)), questions.deadline()), (None, Some(Moment(3000))));
        assert_eq!(questions.expire(Moment(3000)), Some(first));
        assert_eq!((questions.expire(Moment(3009)), questions.deadline()), (None, Some(Moment(3010))));
        assert_eq!(questions.expire(Moment(3010)), Some(third));
        assert_eq!((questions.expire(Moment(9999)), questions.deadline()), (None, None));
        assert!(!questions.settle(first) && !questions.settle(third));
    }

    #[test]
    fn there_is_an_end_to_questions() {
        let mut questions = Questions::default();
        let tickets: Vec<_> = (0..QUESTIONS_MAX).map(|_| questions.ask(Moment(0)).unwrap()).collect();
        assert_eq!(questions.ask(Moment(0)), Err(Refused::Busy));
        assert!(questions.settle(tickets[0]));
        assert!(questions.ask(Moment(0)).is_ok());
    }
}
