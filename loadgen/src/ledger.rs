//! What is under way on one connection: which message went out when, and what came back of it.

use std::collections::VecDeque;

/// Messages sent and not yet answered, in the order of their numbers.
///
/// Invariant: `pending[0]`, if there is one, has the number `first` and has not arrived.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pending: VecDeque<Pending>,
    first: u64,
    /// One past the highest number that arrived.
    arrived_until: u64,
    outstanding: usize,
    /// The last numbers that were given up, so that a late answer is not taken for a second one.
    given_up: VecDeque<u64>,
}

/// When a message was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    /// When it should have been sent.
    pub(crate) intended_ns: u64,
    /// When it was.
    pub(crate) sent_ns: u64,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    sent: Sent,
    arrived: bool,
}

/// What an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// An answer that was waited for; later messages may have been answered before it.
    Answer {
        /// When its message was sent.
        sent: Sent,
        /// Whether a later message was answered before it.
        out_of_order: bool,
    },
    /// Was here before.
    Duplicate,
    /// Comes after it was given up.
    Late,
    /// Nothing of this number was sent.
    Unsent,
}

impl Ledger {
    /// A message goes out; its number comes back.
    pub(crate) fn send(&mut self, sent: Sent) -> u64 {
        self.pending.push_back(Pending { sent, arrived: false });
        self.outstanding += 1;
        self.first + self.pending.len() as u64 - 1
    }

    /// The number that should arrive next.
    pub(crate) fn expected(&self) -> u64 {
        self.first.max(self.arrived_until)
    }

    /// How many have not arrived.
    pub(crate) fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// Message `number` has arrived.
    pub(crate) fn arrive(&mut self, number: u64) -> Arrival {
        let Some(at) = number.checked_sub(self.first) else { return self.arrive_behind(number) };
        let Some(pending) = usize::try_from(at).ok().and_then(|at| self.pending.get_mut(at)) else {
            return Arrival::Unsent;
        };
        if pending.arrived {
            return Arrival::Duplicate;
        }
        pending.arrived = true;
        let sent = pending.sent;
        self.outstanding -= 1;
        let out_of_order = number < self.arrived_until;
        self.arrived_until = self.arrived_until.max(number + 1);
        self.pop_arrived();
        Arrival::Answer { sent, out_of_order }
    }

    /// Gives up what was sent before `before_ns` and is still out. Returns how many that were.
    pub(crate) fn give_up_sent_before(&mut self, before_ns: u64) -> usize {
        let mut count = 0;
        while let Some(oldest) = self.pending.front()
            && oldest.sent.sent_ns < before_ns
        {
            if self.given_up.len() == GIVEN_UP_KEPT {
                self.given_up.pop_front();
            }
            self.given_up.push_back(self.first);
            self.pending.pop_front();
            self.first += 1;
            self.outstanding -= 1;
            count += 1;
            self.pop_arrived();
        }
        count
    }

    fn arrive_behind(&mut self, number: u64) -> Arrival {
        match self.given_up.iter().position(|&given_up| given_up == number) {
            Some(at) => {
                self.given_up.remove(at);
                Arrival::Late
            }
            None => Arrival::Duplicate,
        }
    }

    fn pop_arrived(&mut self) {
        while self.pending.front().is_some_and(|oldest| oldest.arrived) {
            self.pending.pop_front();
            self.first += 1;
        }
    }
}

/// Numbers given up that are remembered.
const GIVEN_UP_KEPT: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ns: u64) -> Sent {
        Sent { intended_ns: ns, sent_ns: ns }
    }

    fn with(count: u64) -> Ledger {
        let mut ledger = Ledger::default();
        for n in 0..count {
            assert_eq!(ledger.send(at(n)), n);
        }
        ledger
    }

    fn answer(ns: u64, out_of_order: bool) -> Arrival {
        Arrival::Answer { sent: at(ns), out_of_order }
    }

    #[test]
    fn in_order() {
        let mut ledger = with(3);
        for n in 0..3 {
            assert_eq!(ledger.expected(), n);
            assert_eq!(ledger.arrive(n), answer(n, false));
        }
        assert_eq!(ledger.outstanding(), 0);
        assert_eq!(ledger.send(at(9)), 3);
    }

    #[test]
    fn a_gap_is_outstanding_until_it_is_given_up() {
        let mut ledger = with(4);
        for n in [0, 2, 3] {
            assert_eq!(ledger.arrive(n), answer(n, false));
        }
        assert_eq!(ledger.outstanding(), 1);
        assert_eq!(ledger.give_up_sent_before(1), 0);
        assert_eq!(ledger.give_up_sent_before(2), 1);
        assert_eq!((ledger.outstanding(), ledger.expected(), ledger.send(at(4))), (0, 4, 4));
        assert_eq!(ledger.arrive(1), Arrival::Late);
        assert_eq!(ledger.arrive(1), Arrival::Duplicate);
    }

    #[test]
    fn the_one_that_was_overtaken_is_out_of_order() {
        let mut ledger = with(3);
        assert_eq!(ledger.arrive(1), answer(1, false));
        assert_eq!(ledger.arrive(0), answer(0, true));
        assert_eq!(ledger.arrive(2), answer(2, false));
        assert_eq!(ledger.outstanding(), 0);
    }

    #[test]
    fn twice_is_once_too_often_and_the_future_was_never_sent() {
        let mut ledger = with(3);
        assert_eq!(ledger.arrive(0), answer(0, false));
        assert_eq!(ledger.arrive(0), Arrival::Duplicate);
        assert_eq!(ledger.arrive(2), answer(2, false));
        assert_eq!(ledger.arrive(2), Arrival::Duplicate);
        assert_eq!(ledger.arrive(3), Arrival::Unsent);
        assert_eq!(ledger.outstanding(), 1);
    }
}
