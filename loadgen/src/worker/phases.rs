//! Where a worker is, and what is due when. Reads no socket.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use corewire::connection::{Limits, Random, Workspace};
use rustix::time::ClockId;

use super::{Assignment, Harvest, Mark};
use crate::board::{Board, Timetable};
use crate::clock::Clock;
use crate::link::Desk;
use crate::observe::Observer;
use crate::scenario::Scenario;
use crate::schedule::Schedule;
use crate::tally::{Interval, Tally, Window};
use crate::transport::Dial;

/// Where a worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Connections are being opened.
    Opening,
    /// The other workers are not ready yet.
    Waiting,
    Running(Timetable),
    /// Nothing is sent any more; answers still come. So long after the last worker has stopped, they are given up.
    Draining {
        patience_ns: u64,
        give_up_ns: u64,
    },
    /// Connections are being closed: politely until the first moment, by force until the second.
    Closing {
        cut_ns: u64,
        give_up_ns: u64,
    },
    Done,
}

/// A worker's state: all that its tasks share.
pub(super) struct Worker {
    pub(super) assignment: Assignment,
    pub(super) dial: Rc<Dial>,
    pub(super) desk: Desk,
    pub(super) scenario: Box<dyn Scenario>,
    observer: Option<Observer>,
    pub(super) board: Arc<Board>,
    pub(super) phase: Phase,
    /// Links of the first wave that have been asked for.
    asked: usize,
    ramp: Option<Schedule>,
    /// Opening now.
    pub(super) opening: usize,
    next_tick_ns: u64,
    start_ns: u64,
    seconds_told: usize,
    pub(super) marks: Vec<Mark>,
    pub(super) busy_ns: u64,
    pub(super) random: Random,
}

impl Worker {
    pub(super) fn new(
        assignment: Assignment,
        dial: Dial,
        scenario: Box<dyn Scenario>,
        observer: Option<Observer>,
        clock: Clock,
        board: Arc<Board>,
    ) -> Self {
        let limits = Limits {
            message_bytes_max: assignment.message_bytes_max,
            frame_bytes_max: assignment.message_bytes_max,
            idle_timeout: Duration::ZERO,
            ping_interval: Duration::ZERO,
            ..Limits::default()
        };
        let workspace = Workspace::new(limits, assignment.seed);
        let ramp = assignment
            .ramp_per_second
            .map(|rate| Schedule::new(clock.now_ns(), rate, assignment.index, assignment.worker_count));
        Self {
            desk: Desk::new(clock, assignment.link_count, workspace),
            random: Random::new(assignment.seed ^ 0x5eed),
            assignment,
            dial: Rc::new(dial),
            scenario,
            observer,
            board,
            phase: Phase::Opening,
            asked: 0,
            ramp,
            opening: 0,
            next_tick_ns: 0,
            start_ns: 0,
            seconds_told: 0,
            marks: Vec::new(),
            busy_ns: 0,
        }
    }

    pub(super) fn harvest(&mut self) -> Harvest {
        let tally = std::mem::replace(&mut self.desk.tally, Tally::new());
        Harvest { window: tally.window, tally, marks: std::mem::take(&mut self.marks) }
    }

    /// Does what is due at `now_ns`.
    pub(super) fn advance(&mut self, now_ns: u64) {
        self.desk.now_ns = now_ns;
        match self.phase {
            Phase::Opening => self.advance_opening(),
            Phase::Waiting => self.advance_waiting(),
            Phase::Running(timetable) => self.advance_running(timetable),
            Phase::Draining { patience_ns, give_up_ns } => self.advance_draining(patience_ns, give_up_ns),
            Phase::Closing { cut_ns, give_up_ns } => self.advance_closing(cut_ns, give_up_ns),
            Phase::Done => {}
        }
        if now_ns >= self.next_tick_ns {
            self.next_tick_ns = now_ns + TICK_NS;
            self.tick();
        }
    }

    fn advance_opening(&mut self) {
        while self.asked < self.assignment.open_first {
            let may_open = match &mut self.ramp {
                Some(ramp) => ramp.take_due(self.desk.now_ns).is_some(),
                None => self.opening + self.desk.wanted.len() < OPENING_MAX,
            };
            if !may_open {
                break;
            }
            self.desk.open(self.asked);
            self.asked += 1;
        }
        if self.asked < self.assignment.open_first || self.opening > 0 || !self.desk.wanted.is_empty() {
            return;
        }
        match self.scenario.is_ready(&mut self.desk) {
            Ok(false) => {}
            Ok(true) => {
                self.phase = Phase::Waiting;
                self.board.ready.fetch_add(1, Ordering::AcqRel);
            }
            Err(reason) => self.board.fail(reason),
        }
    }

    fn advance_waiting(&mut self) {
        let Some(&timetable) = self.board.timetable.get() else { return };
        if self.desk.now_ns < timetable.start_ns {
            return;
        }
        self.phase = Phase::Running(timetable);
        self.start_ns = timetable.start_ns;
        self.desk.tally.window = timetable.window;
        let Assignment { index, worker_count, .. } = self.assignment;
        self.desk.schedule = self.scenario.schedule(timetable.start_ns, index, worker_count);
        self.plan(timetable.window);
        self.scenario.on_start(&mut self.desk);
    }

    /// Counts what is meant for the window.
    fn plan(&mut self, Window { from_ns, until_ns }: Window) {
        if let Some(schedule) = &self.desk.schedule {
            let planned_before = |end_ns| self.scenario.planned_before(schedule, end_ns);
            self.desk.tally.counts.planned = planned_before(until_ns) - planned_before(from_ns);
        }
    }

    fn advance_running(&mut self, timetable: Timetable) {
        let Window { from_ns, until_ns } = timetable.window;
        let last_ns = self.desk.now_ns.min(timetable.stop_ns - 1);
        while let Some((number, intended_ns)) = self.desk.schedule.as_mut().and_then(|s| s.take_due(last_ns)) {
            self.scenario.on_due(number, intended_ns, &mut self.desk);
        }
        if self.marks.is_empty() && self.desk.now_ns >= from_ns {
            self.mark();
        }
        if self.marks.len() == 1 && self.desk.now_ns >= until_ns {
            self.mark();
        }
        if self.desk.now_ns >= timetable.stop_ns {
            self.scenario.on_stop(&mut self.desk);
            self.board.stopped.fetch_add(1, Ordering::AcqRel);
            let patience_ns = timetable.drained_by_ns - timetable.stop_ns;
            self.phase = Phase::Draining { patience_ns, give_up_ns: self.desk.now_ns + patience_ns };
        }
    }

    fn advance_draining(&mut self, patience_ns: u64, give_up_ns: u64) {
        let now_ns = self.desk.now_ns;
        if self.board.stopped.load(Ordering::Acquire) < self.assignment.worker_count {
            // A worker that is late has yet to send what our links hear.
            self.phase = Phase::Draining { patience_ns, give_up_ns: now_ns + patience_ns };
        } else if self.scenario.is_drained() || now_ns >= give_up_ns {
            self.scenario.on_finish(&mut self.desk);
            // The last second may have ended just now.
            self.tell_second();
            self.begin_closing();
        }
    }

    fn advance_closing(&mut self, cut_ns: u64, give_up_ns: u64) {
        let now_ns = self.desk.now_ns;
        if (self.desk.live == 0 && self.opening == 0) || now_ns >= give_up_ns {
            self.phase = Phase::Done;
        } else if now_ns >= cut_ns {
            for slot in 0..self.desk.links.len() {
                self.desk.cut(slot);
            }
        }
    }

    fn begin_closing(&mut self) {
        let now_ns = self.desk.now_ns;
        self.phase = Phase::Closing { cut_ns: now_ns + CLOSE_NS, give_up_ns: now_ns + 2 * CLOSE_NS };
        self.desk.wanted.clear();
        for slot in 0..self.desk.links.len() {
            if self.assignment.raw {
                // Without WebSocket there is no Close that would be answered.
                self.desk.finish(slot);
            } else {
                self.desk.close(slot);
            }
        }
    }

    fn tick(&mut self) {
        if self.board.has_failed() && !matches!(self.phase, Phase::Closing { .. } | Phase::Done) {
            self.begin_closing();
        }
        if let Phase::Running(timetable) = &mut self.phase {
            if self.board.stop.load(Ordering::Relaxed) && self.desk.now_ns < timetable.stop_ns {
                timetable.end_at(self.desk.now_ns);
                self.desk.tally.window = timetable.window;
                let window = timetable.window;
                self.plan(window);
            }
            self.scenario.on_tick(&mut self.desk);
        } else if matches!(self.phase, Phase::Draining { .. }) {
            self.scenario.on_tick(&mut self.desk);
        }
        self.wake_overdue_openers();
        self.tell_second();
    }

    fn wake_overdue_openers(&mut self) {
        if self.opening == 0 {
            return;
        }
        let now_ns = self.desk.now_ns;
        for link in &mut self.desk.links {
            if let Some((waker, _)) = link.opener.take_if(|(_, give_up_ns)| *give_up_ns <= now_ns) {
                waker.wake();
            }
        }
    }

    /// Hands the last second over, once a second.
    fn tell_second(&mut self) {
        if !matches!(self.phase, Phase::Running(_) | Phase::Draining { .. }) {
            return;
        }
        let second = ((self.desk.now_ns - self.start_ns) / 1_000_000_000) as usize;
        if second > self.seconds_told {
            let mut interval = std::mem::replace(&mut self.desk.tally.interval, Interval::new());
            interval.workers = 1;
            interval.open = self.desk.open_count() as u64;
            self.board.add_second(self.seconds_told, second - 1, &interval);
            self.seconds_told = second;
        }
    }

    fn mark(&mut self) {
        let cpu = rustix::time::clock_gettime(ClockId::ThreadCPUTime);
        let observed = self.observer.as_mut().and_then(|observer| observer.observe().ok());
        self.marks.push(Mark {
            at_ns: self.desk.clock.now_ns(),
            worker_cpu_ns: cpu.tv_sec as u64 * 1_000_000_000 + cpu.tv_nsec as u64,
            worker_busy_ns: self.busy_ns,
            observed,
        });
    }

    /// The moment after which something may be due that no message announces.
    pub(super) fn next_wake_ns(&self) -> u64 {
        let next_ns = match self.phase {
            Phase::Running(timetable) => {
                let due_ns = self.desk.schedule.map_or(u64::MAX, |schedule| schedule.next_ns());
                due_ns.min(timetable.edge_ns(self.marks.len()))
            }
            Phase::Opening => self.ramp.map_or(self.desk.now_ns + OPENING_POLL_NS, |ramp| ramp.next_ns()),
            Phase::Waiting | Phase::Draining { .. } | Phase::Closing { .. } => self.desk.now_ns + OPENING_POLL_NS,
            Phase::Done => 0,
        };
        next_ns.min(self.next_tick_ns)
    }
}

/// A hundredth of a second.
const TICK_NS: u64 = 10_000_000;
/// How often it is looked whether the phase is over, where nothing announces it.
const OPENING_POLL_NS: u64 = 500_000;
/// Connections being opened at once, where no ramp says otherwise: fewer than servers' backlogs hold.
const OPENING_MAX: usize = 64;
/// For the closing handshakes at the end, and then for what is cut.
const CLOSE_NS: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use corewire::protocol::MessageKind;

    use super::*;
    use crate::target::Target;

    /// Always content.
    struct Idle;

    impl Scenario for Idle {
        fn on_start(&mut self, _: &mut Desk) {}
        fn on_message(&mut self, _: usize, _: MessageKind, _: &[u8], _: &mut Desk) {}
        fn on_stop(&mut self, _: &mut Desk) {}
        fn is_drained(&self) -> bool {
            true
        }
        fn on_finish(&mut self, _: &mut Desk) {}
    }

    fn worker(index: usize, board: &Arc<Board>) -> Worker {
        let assignment = Assignment {
            index,
            worker_count: 2,
            core: None,
            spin: false,
            raw: false,
            link_count: 0,
            open_first: 0,
            ramp_per_second: None,
            read_bytes: 1,
            message_bytes_max: 1,
            sources: Vec::new(),
            query_of: None,
            seed: 1,
        };
        let dial = Dial {
            target: Target::parse("ws://127.0.0.1:1/").unwrap(),
            address: ([127, 0, 0, 1], 1).into(),
            tls: None,
            headers: Vec::new(),
            subprotocols: Vec::new(),
            compress: false,
            timeout: Duration::from_secs(1),
            ring: false,
        };
        Worker::new(assignment, dial, Box::new(Idle), None, Clock::start(), Arc::clone(board))
    }

    /// What a worker sends late, others hear: their connections stay, and have as long for it as in a run in time.
    #[test]
    fn nobody_leaves_before_the_last_worker_has_stopped() {
        const SECOND: u64 = 1_000_000_000;
        let board = Arc::new(Board::new());
        let (mut in_time, mut late) = (worker(0, &board), worker(1, &board));
        let window = Window { from_ns: SECOND, until_ns: 2 * SECOND };
        let timetable = Timetable { start_ns: SECOND, window, stop_ns: 2 * SECOND, drained_by_ns: 7 * SECOND };
        for worker in [&mut in_time, &mut late] {
            worker.advance(1);
            assert_eq!(worker.phase, Phase::Waiting);
        }
        board.timetable.set(timetable).unwrap();
        [1, 2, 3, 30].into_iter().for_each(|second| in_time.advance(second * SECOND));
        late.advance(SECOND);
        assert_eq!(in_time.phase, Phase::Draining { patience_ns: 5 * SECOND, give_up_ns: 35 * SECOND });
        late.advance(31 * SECOND);
        assert_eq!(late.phase, Phase::Draining { patience_ns: 5 * SECOND, give_up_ns: 36 * SECOND });
        for worker in [&mut in_time, &mut late] {
            worker.advance(31 * SECOND);
            assert!(matches!(worker.phase, Phase::Closing { .. }), "{:?}", worker.phase);
        }
    }
}
