//! `idle`: connections that say nothing, or only a ping now and then. What they cost is read from outside.

use std::collections::BTreeMap;

use corewire::protocol::MessageKind;

use super::Scenario;
use crate::link::{Desk, Reading};

/// What the idle do.
#[derive(Clone, Debug)]
pub(crate) struct IdlePlan {
    /// Pings per second of all connections together; `None` is silence.
    pub(crate) pings_per_second: Option<f64>,
    /// Whether a receive is posted for each connection: it costs kernel memory, on our side.
    pub(crate) reads: bool,
}

/// One worker's part.
pub(crate) struct Idle {
    plan: IdlePlan,
    link_count: usize,
    /// Pings that are out: by slot and number, the moment they were meant for and the moment they left.
    out: BTreeMap<(usize, u64), (u64, u64)>,
    stopped_ns: Option<u64>,
    /// Whether those that the server let go had time to be noticed.
    looked: bool,
}

impl Idle {
    pub(crate) fn new(plan: IdlePlan, link_count: usize) -> Self {
        Self { plan, link_count, out: BTreeMap::new(), stopped_ns: None, looked: false }
    }
}

impl Scenario for Idle {
    fn rate_per_second(&self) -> Option<f64> {
        self.plan.pings_per_second
    }

    fn needs_every_link(&self) -> bool {
        // How far it goes is a result.
        false
    }

    fn on_open(&mut self, slot: usize, desk: &mut Desk) {
        if !self.plan.reads {
            desk.links[slot].read(Reading::Stopped);
        }
    }

    fn on_start(&mut self, _desk: &mut Desk) {}

    fn on_due(&mut self, number: u64, intended_ns: u64, desk: &mut Desk) {
        let slot = (number % self.link_count as u64) as usize;
        if !desk.is_open(slot) {
            return;
        }
        desk.ping(slot, &number.to_be_bytes());
        desk.tally.sent(intended_ns, desk.now_ns);
        self.out.insert((slot, number), (intended_ns, desk.now_ns));
    }

    fn on_message(&mut self, _slot: usize, _kind: MessageKind, payload: &[u8], desk: &mut Desk) {
        // Nobody asked for it, and nobody minds: servers greet.
        desk.tally.arrived(payload.len(), desk.now_ns);
    }

    fn on_pong(&mut self, slot: usize, payload: &[u8], desk: &mut Desk) {
        let Ok(number) = payload.try_into().map(u64::from_be_bytes) else { return };
        desk.tally.arrived(payload.len(), desk.now_ns);
        match self.out.remove(&(slot, number)) {
            Some((intended_ns, sent_ns)) => desk.tally.answered(intended_ns, sent_ns, desk.now_ns),
            None => desk.tally.counts.duplicate += 1,
        }
    }

    fn on_gone(&mut self, slot: usize, desk: &mut Desk) {
        let lost: Vec<_> = self.out.range((slot, 0)..=(slot, u64::MAX)).map(|(&key, _)| key).collect();
        desk.tally.counts.lost += lost.len() as u64;
        for key in lost {
            self.out.remove(&key);
        }
    }

    fn on_stop(&mut self, desk: &mut Desk) {
        self.stopped_ns = Some(desk.now_ns);
        for link in &mut desk.links {
            // Whoever was let go by the server meanwhile is found now.
            link.read(Reading::Flowing);
        }
    }

    fn on_tick(&mut self, desk: &mut Desk) {
        self.looked = self.stopped_ns.is_some_and(|stopped_ns| desk.now_ns > stopped_ns + LOOK_NS);
    }

    fn is_drained(&self) -> bool {
        self.out.is_empty() && self.looked
    }

    fn on_finish(&mut self, desk: &mut Desk) {
        desk.tally.counts.lost += self.out.len() as u64;
        self.out.clear();
    }
}

/// Time for the ends of connections to be read.
const LOOK_NS: u64 = 100_000_000;
