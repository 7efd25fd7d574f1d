//! How a share of the subscribers is cut off and comes back.

use super::{Phase, Topics};
use crate::link::Desk;

impl Topics {
    /// Cuts a share of this worker's subscribers off.
    pub(super) fn drop_share(&mut self, share: f64, desk: &mut Desk) {
        let dropped = ((self.hearers.len() as f64 * share).round() as usize).clamp(1, self.hearers.len());
        let first = self.hearers.len() - dropped;
        self.phase = Phase::Recovering { cut_ns: desk.now_ns, left: dropped as u64 };
        for at in first..self.hearers.len() {
            let hearer = &mut self.hearers[at];
            hearer.is_dropped = true;
            hearer.behind = hearer.count();
            let slot = self.speakers.len() + at;
            if desk.is_open(slot) {
                desk.cut(slot);
            } else {
                // It had been lost before, and an error was counted.
                self.come_back(slot, desk);
            }
        }
    }

    /// Opens a link again, as soon as not too many others are being opened.
    pub(super) fn come_back(&mut self, slot: usize, desk: &mut Desk) {
        if self.plan.drop.is_some() && self.phase != Phase::Before && !self.is_finished {
            self.returning.push_back(slot);
            self.open_next(desk);
        }
    }

    fn open_next(&mut self, desk: &mut Desk) {
        while self.returning_now < RETURNING_MAX
            && let Some(slot) = self.returning.pop_front()
        {
            self.returning_now += 1;
            desk.open(slot);
        }
    }

    /// A link is open again, or could not be opened.
    pub(super) fn returned(&mut self, desk: &mut Desk) {
        if self.phase != Phase::Before {
            self.returning_now = self.returning_now.saturating_sub(1);
            self.open_next(desk);
        }
    }

    /// One subscription of a link that was cut off has heard all that it missed.
    pub(super) fn caught_up(&mut self, at: usize, desk: &mut Desk) {
        let hearer = &mut self.hearers[at];
        hearer.behind = hearer.behind.saturating_sub(1);
        let Phase::Recovering { cut_ns, left } = &mut self.phase else { return };
        if hearer.behind > 0 || !hearer.is_dropped || hearer.is_back {
            return;
        }
        hearer.is_back = true;
        desk.tally.client_recovery.saturating_record(desk.now_ns - *cut_ns);
        *left -= 1;
        if *left == 0 {
            desk.tally.recovery_ns = Some(desk.now_ns - *cut_ns);
            self.phase = Phase::After;
        }
    }
}

/// Links of one worker that are opened again at once: with all of them, the worker would do nothing else for a second,
/// and count that as the server's latency.
const RETURNING_MAX: usize = 256;
