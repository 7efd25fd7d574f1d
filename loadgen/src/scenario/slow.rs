//! `slow`: some clients send and do not read, or read slowly, while the others are measured by `echo`.

use std::sync::Arc;

use corewire::protocol::MessageKind;

use super::Scenario;
use super::echo::{Echo, EchoPlan};
use crate::link::{Desk, Reading};
use crate::payload::Pattern;

/// Who is slow, and how slow.
#[derive(Clone, Debug)]
pub(crate) struct SlowPlan {
    pub(crate) share: f64,
    /// Bytes that a slow client reads per second; 0 is none.
    pub(crate) read_bytes_per_second: u64,
    /// Bytes per message of the slow ones.
    pub(crate) slow_len: usize,
    pub(crate) echo: EchoPlan,
}

/// One worker's part.
pub(crate) struct Slow {
    plan: SlowPlan,
    echo: Echo,
    /// Links before this are fast.
    fast: usize,
    link_count: usize,
    pattern: Arc<Pattern>,
    /// Bytes that each slow link may still read.
    allowances: Vec<i64>,
    last_tick_ns: u64,
    stopped: bool,
}

impl Slow {
    pub(crate) fn new(plan: SlowPlan, pattern: Arc<Pattern>, first_origin: u32, link_count: usize) -> Self {
        let slow = ((link_count as f64 * plan.share).round() as usize).min(link_count.saturating_sub(1));
        let fast = link_count - slow;
        let echo = Echo::new(plan.echo.clone(), Arc::clone(&pattern), first_origin, fast);
        Self { plan, echo, fast, link_count, pattern, allowances: vec![0; slow], last_tick_ns: 0, stopped: false }
    }
}

impl Scenario for Slow {
    fn rate_per_second(&self) -> Option<f64> {
        self.echo.rate_per_second()
    }

    fn on_open(&mut self, slot: usize, desk: &mut Desk) {
        if slot >= self.fast {
            desk.links[slot].read(Reading::Stopped);
        }
    }

    fn on_start(&mut self, desk: &mut Desk) {
        self.last_tick_ns = desk.now_ns;
        self.echo.on_start(desk);
    }

    fn on_due(&mut self, number: u64, intended_ns: u64, desk: &mut Desk) {
        self.echo.on_due(number, intended_ns, desk);
    }

    fn on_message(&mut self, slot: usize, kind: MessageKind, payload: &[u8], desk: &mut Desk) {
        match slot.checked_sub(self.fast) {
            None => self.echo.on_message(slot, kind, payload, desk),
            Some(slow) => {
                self.allowances[slow] -= payload.len() as i64;
                if self.allowances[slow] <= 0 && !self.stopped {
                    desk.links[slot].read(Reading::Stopped);
                }
            }
        }
    }

    fn on_gone(&mut self, slot: usize, desk: &mut Desk) {
        if slot < self.fast {
            self.echo.on_gone(slot, desk);
        } else {
            // What a server does with those who do not read is its policy, and a result.
            desk.tally.slow_dropped += u64::from(!self.stopped);
        }
    }

    fn on_tick(&mut self, desk: &mut Desk) {
        self.echo.on_tick(desk);
        let elapsed_ns = desk.now_ns - std::mem::replace(&mut self.last_tick_ns, desk.now_ns);
        let granted = (u128::from(self.plan.read_bytes_per_second) * u128::from(elapsed_ns) / 1_000_000_000) as i64;
        for slot in self.fast..self.link_count {
            if self.stopped {
                break;
            }
            let allowance = &mut self.allowances[slot - self.fast];
            // Unused allowance is not saved up for later.
            *allowance = (*allowance + granted).min(granted.max(1));
            if self.plan.read_bytes_per_second > 0 && *allowance > 0 {
                desk.links[slot].read(Reading::Flowing);
            }
            // It sends whenever all before has left: the server always has something to answer.
            if desk.links[slot].outgoing.is_empty() {
                let (pattern, len) = (&self.pattern, self.plan.slow_len);
                desk.send(slot, pattern.kind(), len, |out| pattern.write(0, 0, len, out));
            }
        }
    }

    fn on_stop(&mut self, desk: &mut Desk) {
        self.stopped = true;
        self.echo.on_stop(desk);
        for slot in self.fast..self.link_count {
            desk.cut(slot);
        }
    }

    fn is_drained(&self) -> bool {
        self.echo.is_drained()
    }

    fn on_finish(&mut self, desk: &mut Desk) {
        self.echo.on_finish(desk);
    }
}
