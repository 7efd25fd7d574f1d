//! `storm`: connections come and go. Either a steady churn, or a share of all is cut off at once and comes back.

use std::sync::Arc;

use corewire::protocol::MessageKind;

use super::Scenario;
use super::echo::{Echo, EchoPlan};
use crate::link::Desk;
use crate::payload::Pattern;
use crate::transport::OpenError;

/// How connections come and go.
#[derive(Clone, Debug)]
pub(crate) enum StormPlan {
    /// Each connection is opened, kept for a while, closed, and opened again.
    Churn {
        /// Connections opened per second, all workers together; `None` as fast as they come.
        rate_per_second: Option<f64>,
        hold_ns: u64,
    },
    /// In the middle of the measured time a share of the links is cut off, and comes back.
    Drop {
        share: f64,
        /// What goes on on all links meanwhile.
        echo: EchoPlan,
    },
}

/// Steady churn: one worker's part.
pub(crate) struct Churn {
    rate_per_second: Option<f64>,
    hold_ns: u64,
    /// When each link was meant to be opened, and when it is to be closed.
    lanes: Vec<Lane>,
    /// Links without a connection.
    free: Vec<usize>,
    stopped: bool,
    busy: usize,
}

#[derive(Clone, Copy, Default)]
struct Lane {
    intended_ns: u64,
    close_ns: u64,
}

impl Churn {
    pub(crate) fn new(rate_per_second: Option<f64>, hold_ns: u64, link_count: usize) -> Self {
        Self {
            rate_per_second,
            hold_ns,
            lanes: vec![Lane::default(); link_count],
            free: (0..link_count).collect(),
            stopped: false,
            busy: 0,
        }
    }

    fn open_one(&mut self, intended_ns: u64, desk: &mut Desk) {
        match self.free.pop() {
            Some(slot) => {
                self.busy += 1;
                self.lanes[slot] = Lane { intended_ns, close_ns: u64::MAX };
                desk.open(slot);
                desk.tally.sent(intended_ns, desk.now_ns);
            }
            None => desk.tally.error("no_link_free", || {
                "all links were in use when another connection was due: use more --connections".to_owned()
            }),
        }
    }

    /// Without a rate, every free link is opened again.
    fn open_all(&mut self, desk: &mut Desk) {
        while self.rate_per_second.is_none() && !self.stopped && !self.free.is_empty() {
            self.open_one(desk.now_ns, desk);
        }
    }

    fn release(&mut self, slot: usize, desk: &mut Desk) {
        self.busy -= 1;
        self.free.push(slot);
        self.open_all(desk);
    }
}

impl Scenario for Churn {
    fn rate_per_second(&self) -> Option<f64> {
        self.rate_per_second
    }

    fn needs_every_link(&self) -> bool {
        false
    }

    fn on_start(&mut self, desk: &mut Desk) {
        self.open_all(desk);
    }

    fn on_due(&mut self, _number: u64, intended_ns: u64, desk: &mut Desk) {
        self.open_one(intended_ns, desk);
    }

    fn on_open(&mut self, slot: usize, desk: &mut Desk) {
        let intended_ns = self.lanes[slot].intended_ns;
        desk.tally.arrived(0, desk.now_ns);
        desk.tally.answered(intended_ns, intended_ns, desk.now_ns);
        self.lanes[slot].close_ns = desk.now_ns + self.hold_ns;
        if self.hold_ns == 0 {
            desk.close(slot);
        }
    }

    fn on_open_failed(&mut self, slot: usize, _error: &OpenError, desk: &mut Desk) {
        desk.tally.counts.lost += 1;
        self.release(slot, desk);
    }

    fn on_message(&mut self, _slot: usize, _kind: MessageKind, _payload: &[u8], _desk: &mut Desk) {}

    fn on_gone(&mut self, slot: usize, desk: &mut Desk) {
        self.release(slot, desk);
    }

    fn on_tick(&mut self, desk: &mut Desk) {
        for slot in 0..self.lanes.len() {
            if self.lanes[slot].close_ns <= desk.now_ns {
                self.lanes[slot].close_ns = u64::MAX;
                desk.close(slot);
            }
        }
    }

    fn on_stop(&mut self, desk: &mut Desk) {
        self.stopped = true;
        for slot in 0..self.lanes.len() {
            desk.close(slot);
        }
    }

    fn is_drained(&self) -> bool {
        self.busy == 0
    }

    fn on_finish(&mut self, _desk: &mut Desk) {}
}

/// A share is cut off and comes back: one worker's part.
pub(crate) struct Drop {
    /// Talks on the links that stay.
    echo: Echo,
    survivors: usize,
    link_count: usize,
    phase: DropPhase,
    back: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum DropPhase {
    Before,
    /// Cut off at this moment; not all are back.
    Recovering(u64),
    After,
}

impl Drop {
    pub(crate) fn new(share: f64, echo: EchoPlan, pattern: Arc<Pattern>, first_origin: u32, link_count: usize) -> Self {
        let dropped = ((link_count as f64 * share).round() as usize).clamp(1, link_count);
        let survivors = link_count - dropped;
        let echo = Echo::new(echo, pattern, first_origin, survivors.max(1));
        Self { echo, survivors, link_count, phase: DropPhase::Before, back: 0 }
    }
}

impl Scenario for Drop {
    fn rate_per_second(&self) -> Option<f64> {
        self.echo.rate_per_second().filter(|_| self.survivors > 0)
    }

    fn on_start(&mut self, desk: &mut Desk) {
        self.echo.on_start(desk);
    }

    fn on_due(&mut self, number: u64, intended_ns: u64, desk: &mut Desk) {
        self.echo.on_due(number, intended_ns, desk);
    }

    fn on_message(&mut self, slot: usize, kind: MessageKind, payload: &[u8], desk: &mut Desk) {
        if slot < self.survivors {
            self.echo.on_message(slot, kind, payload, desk);
        }
    }

    fn on_open(&mut self, _slot: usize, desk: &mut Desk) {
        if let DropPhase::Recovering(cut_ns) = self.phase {
            self.back += 1;
            if self.back == self.link_count - self.survivors {
                self.phase = DropPhase::After;
                desk.tally.is_meanwhile = false;
                desk.tally.recovery_ns = Some(desk.now_ns - cut_ns);
            }
        }
    }

    fn on_open_failed(&mut self, slot: usize, _error: &OpenError, desk: &mut Desk) {
        if let DropPhase::Recovering(_) = self.phase {
            desk.open(slot);
        }
    }

    fn on_gone(&mut self, slot: usize, desk: &mut Desk) {
        if slot < self.survivors {
            self.echo.on_gone(slot, desk);
        } else if let DropPhase::Recovering(_) = self.phase {
            desk.open(slot);
        }
    }

    fn on_tick(&mut self, desk: &mut Desk) {
        self.echo.on_tick(desk);
        let window = desk.tally.window;
        let middle_ns = window.from_ns + (window.until_ns - window.from_ns) / 2;
        if self.phase == DropPhase::Before && desk.now_ns >= middle_ns && desk.now_ns < window.until_ns {
            self.phase = DropPhase::Recovering(desk.now_ns);
            desk.tally.is_meanwhile = true;
            for slot in self.survivors..self.link_count {
                desk.cut(slot);
            }
        }
    }

    fn on_stop(&mut self, desk: &mut Desk) {
        self.echo.on_stop(desk);
        if let DropPhase::Recovering(_) = self.phase {
            desk.tally.error("not_recovered", || "not all were back when the measuring ended".to_owned());
            self.phase = DropPhase::After;
        }
    }

    fn is_drained(&self) -> bool {
        self.echo.is_drained()
    }

    fn on_finish(&mut self, desk: &mut Desk) {
        self.echo.on_finish(desk);
    }
}
