//! What is done with the connections: a file per scenario. A scenario decides and never awaits; the worker awaits.

pub(crate) mod echo;
pub(crate) mod fanout;
pub(crate) mod idle;
mod numbering;
pub(crate) mod publications;
pub(crate) mod slow;
pub(crate) mod storm;
pub(crate) mod topics;

use corewire::protocol::MessageKind;

use crate::link::Desk;
use crate::schedule::Schedule;
use crate::transport::OpenError;

/// What one worker does with its links. Called with the moment in [`Desk::now_ns`].
pub(crate) trait Scenario {
    /// The rate of [`Scenario::on_due`], all workers together; `None` if nothing is scheduled.
    fn rate_per_second(&self) -> Option<f64> {
        None
    }

    /// The moments at which [`Scenario::on_due`] is called.
    fn schedule(&self, start_ns: u64, worker_index: usize, worker_count: usize) -> Option<Schedule> {
        self.rate_per_second().map(|rate| Schedule::new(start_ns, rate, worker_index, worker_count))
    }

    /// How much of what is due before `end_ns` is to be sent by this worker.
    fn planned_before(&self, schedule: &Schedule, end_ns: u64) -> u64 {
        schedule.count_before(end_ns)
    }

    /// Whether one connection that cannot be opened makes the run pointless.
    fn needs_every_link(&self) -> bool {
        true
    }

    /// A link has been opened.
    fn on_open(&mut self, _slot: usize, _desk: &mut Desk) {}

    /// A link could not be opened; it is counted already.
    fn on_open_failed(&mut self, _slot: usize, _error: &OpenError, _desk: &mut Desk) {}

    /// Whether everything that must be said in front of the start has been answered. Asked once all links are open.
    ///
    /// # Errors
    ///
    /// A sentence that says why the run is pointless.
    fn is_ready(&mut self, _desk: &mut Desk) -> Result<bool, String> {
        Ok(true)
    }

    /// Everything is open: begin.
    fn on_start(&mut self, desk: &mut Desk);

    /// Number `number` of this worker's schedule was meant for `intended_ns`, which has come.
    fn on_due(&mut self, _number: u64, _intended_ns: u64, _desk: &mut Desk) {}

    /// A message has arrived.
    fn on_message(&mut self, slot: usize, kind: MessageKind, payload: &[u8], desk: &mut Desk);

    /// A pong has arrived.
    fn on_pong(&mut self, _slot: usize, _payload: &[u8], _desk: &mut Desk) {}

    /// A link has ended, whoever wanted it.
    fn on_gone(&mut self, _slot: usize, _desk: &mut Desk) {}

    /// A hundredth of a second has passed.
    fn on_tick(&mut self, _desk: &mut Desk) {}

    /// Nothing more is to be sent.
    fn on_stop(&mut self, desk: &mut Desk);

    /// Whether all that was sent has been answered.
    fn is_drained(&self) -> bool;

    /// What is still out will not be waited for.
    fn on_finish(&mut self, desk: &mut Desk);
}
