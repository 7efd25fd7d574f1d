//! `echo`: every message comes back to its sender, and every byte of it is compared.
//!
//! Closed loop: each connection keeps a number of messages under way. Open loop: messages leave at a rate, whatever
//! the server does; a limit of messages under way makes those that are due wait, and their waiting counts.

use std::sync::Arc;

use corewire::protocol::MessageKind;

use super::Scenario;
use crate::ledger::{Arrival, Ledger, Sent};
use crate::link::Desk;
use crate::payload::{Content, Expected, Pattern};
use crate::sizes::Sizes;

/// What is sent, and how much of it.
#[derive(Clone, Debug)]
pub(crate) struct EchoPlan {
    pub(crate) sizes: Sizes,
    /// Messages per second of all workers together; `None` is the closed loop.
    pub(crate) rate_per_second: Option<f64>,
    /// Messages under way per connection.
    pub(crate) inflight: usize,
    /// An answer that takes longer is lost.
    pub(crate) timeout_ns: u64,
}

/// One worker's part.
pub(crate) struct Echo {
    plan: EchoPlan,
    pattern: Arc<Pattern>,
    /// The number that this worker's first link has among all.
    first_origin: u32,
    lanes: Vec<Lane>,
    stopped: bool,
    outstanding: usize,
    /// Messages that are due on some link and wait for room there.
    waiting: usize,
    next_sweep_ns: u64,
}

/// What a link has under way.
#[derive(Default)]
struct Lane {
    ledger: Ledger,
    /// Rounds of the schedule that this link has had its turn in.
    rounds_sent: u64,
    /// Messages that are due and have not been sent: the rounds after those.
    waiting: u64,
}

impl Echo {
    pub(crate) fn new(plan: EchoPlan, pattern: Arc<Pattern>, first_origin: u32, link_count: usize) -> Self {
        let lanes = std::iter::repeat_with(Lane::default).take(link_count).collect();
        Self { plan, pattern, first_origin, lanes, stopped: false, outstanding: 0, waiting: 0, next_sweep_ns: 0 }
    }

    fn send(&mut self, slot: usize, intended_ns: Option<u64>, desk: &mut Desk) {
        if !desk.is_open(slot) {
            return;
        }
        // Read anew for each message: in a burst, the last leaves later than the first.
        let sent_ns = if intended_ns.is_some() { desk.clock.now_ns() } else { desk.now_ns };
        let intended_ns = intended_ns.unwrap_or(sent_ns);
        let number = self.lanes[slot].ledger.send(Sent { intended_ns, sent_ns });
        let origin = self.first_origin + slot as u32;
        let len = self.plan.sizes.len_of(origin, number);
        let pattern = &self.pattern;
        desk.send(slot, pattern.kind(), len, |out| pattern.write(origin, number, len, out));
        desk.tally.sent(intended_ns, sent_ns);
        self.outstanding += 1;
    }

    fn send_waiting(&mut self, slot: usize, desk: &mut Desk) {
        let link_count = self.lanes.len() as u64;
        while self.lanes[slot].waiting > 0 && self.lanes[slot].ledger.outstanding() < self.plan.inflight {
            let lane = &mut self.lanes[slot];
            let number = lane.rounds_sent * link_count + slot as u64;
            lane.rounds_sent += 1;
            lane.waiting -= 1;
            self.waiting -= 1;
            let intended_ns = desk.schedule.map(|schedule| schedule.intended_ns(number));
            self.send(slot, intended_ns, desk);
        }
    }

    /// There is room on a link again.
    fn refill(&mut self, slot: usize, desk: &mut Desk) {
        match self.plan.rate_per_second {
            Some(_) => self.send_waiting(slot, desk),
            None if self.stopped => {}
            None => {
                while self.lanes[slot].ledger.outstanding() < self.plan.inflight && desk.is_open(slot) {
                    self.send(slot, None, desk);
                }
            }
        }
    }

    fn give_up(&mut self, slot: usize, sent_before_ns: u64, desk: &mut Desk) -> usize {
        let lost = self.lanes[slot].ledger.give_up_sent_before(sent_before_ns);
        self.outstanding -= lost;
        desk.tally.counts.lost += lost as u64;
        lost
    }
}

impl Scenario for Echo {
    fn rate_per_second(&self) -> Option<f64> {
        self.plan.rate_per_second
    }

    fn on_start(&mut self, desk: &mut Desk) {
        self.next_sweep_ns = desk.now_ns + SWEEP_NS;
        if self.plan.rate_per_second.is_none() {
            for slot in 0..self.lanes.len() {
                self.refill(slot, desk);
            }
        }
    }

    fn on_due(&mut self, number: u64, _intended_ns: u64, desk: &mut Desk) {
        let slot = (number % self.lanes.len() as u64) as usize;
        self.lanes[slot].waiting += 1;
        self.waiting += 1;
        self.send_waiting(slot, desk);
    }

    fn on_message(&mut self, slot: usize, kind: MessageKind, payload: &[u8], desk: &mut Desk) {
        desk.tally.arrived(payload.len(), desk.now_ns);
        let lane = &mut self.lanes[slot];
        let origin = self.first_origin + slot as u32;
        let expected = Expected { origin, sequence: lane.ledger.expected(), len: None };
        let number = match self.pattern.read(payload, expected) {
            Content::Good { origin: from, sequence }
                if from == origin
                    && kind == self.pattern.kind()
                    && payload.len() == self.plan.sizes.len_of(origin, sequence) =>
            {
                sequence
            }
            // It stands for the message that was to come: it is wrong, not lost.
            Content::Good { .. } | Content::Corrupt => {
                desk.tally.counts.corrupt += 1;
                expected.sequence
            }
        };
        match lane.ledger.arrive(number) {
            Arrival::Answer { sent, out_of_order } => {
                self.outstanding -= 1;
                desk.tally.counts.out_of_order += u64::from(out_of_order);
                desk.tally.answered(sent.intended_ns, sent.sent_ns, desk.now_ns);
                self.refill(slot, desk);
            }
            Arrival::Duplicate => desk.tally.counts.duplicate += 1,
            Arrival::Late => desk.tally.counts.late += 1,
            Arrival::Unsent => desk.tally.counts.unsent += 1,
        }
    }

    fn on_gone(&mut self, slot: usize, desk: &mut Desk) {
        self.give_up(slot, u64::MAX, desk);
        self.waiting -= std::mem::take(&mut self.lanes[slot].waiting) as usize;
    }

    fn on_tick(&mut self, desk: &mut Desk) {
        if desk.now_ns < self.next_sweep_ns {
            return;
        }
        self.next_sweep_ns = desk.now_ns + SWEEP_NS;
        let before_ns = desk.now_ns.saturating_sub(self.plan.timeout_ns);
        for slot in 0..self.lanes.len() {
            if self.give_up(slot, before_ns, desk) > 0 {
                self.refill(slot, desk);
            }
        }
    }

    fn on_stop(&mut self, _desk: &mut Desk) {
        self.stopped = true;
    }

    fn is_drained(&self) -> bool {
        self.outstanding == 0 && self.waiting == 0
    }

    fn on_finish(&mut self, desk: &mut Desk) {
        for slot in 0..self.lanes.len() {
            self.give_up(slot, u64::MAX, desk);
        }
    }
}

/// How often answers that are overdue are looked for.
const SWEEP_NS: u64 = 100_000_000;
