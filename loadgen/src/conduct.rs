//! One run from beginning to end: starts the workers, tells them when, watches, and adds up what they bring.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use corewire::protocol::MessageKind;

use crate::board::{Board, Timetable};
use crate::clock::Clock;
use crate::observe::{Memory, Observer};
use crate::payload::Pattern;
use crate::scenario::Scenario;
use crate::scenario::echo::{Echo, EchoPlan};
use crate::scenario::fanout::{Fanout, FanoutPlan, Pace, Place};
use crate::scenario::idle::{self, Idle, IdlePlan};
use crate::scenario::publications::Publications;
use crate::scenario::slow::{Slow, SlowPlan};
use crate::scenario::storm::{self, Churn, StormPlan};
use crate::scenario::topics::{self, Accepted, Topics, TopicsPlan};
use crate::tally::{Interval, Tally, Window};
use crate::target::{Scheme, Target};
use crate::transport::{Dial, TlsDial};
use crate::worker::{self, Assignment, Harvest, Mark};

/// Everything that is decided before a run.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) target: Target,
    pub(crate) address: std::net::SocketAddr,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) subprotocols: Vec<String>,
    /// Offer permessage-deflate, and send what shrinks.
    pub(crate) compress: bool,
    pub(crate) tls: Option<TlsDial>,
    /// Source addresses, in turn; empty for the kernel's choice.
    pub(crate) sources: Vec<std::net::IpAddr>,
    pub(crate) connections: usize,
    pub(crate) kind: MessageKind,
    /// One worker on each.
    pub(crate) cores: Vec<usize>,
    pub(crate) spin: bool,
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
    /// Traffic goes on for so long behind what is measured.
    pub(crate) cool_down: Duration,
    pub(crate) ramp_per_second: Option<f64>,
    /// For opening a connection and for an answer.
    pub(crate) timeout: Duration,
    pub(crate) plan: ScenarioPlan,
}

/// What is done, by scenario.
#[derive(Clone, Debug)]
pub(crate) enum ScenarioPlan {
    Echo(EchoPlan),
    Idle(IdlePlan),
    Fanout(FanoutPlan),
    Storm(StormPlan),
    Slow(SlowPlan),
    /// `fanout` over a wire with topics, or `recovery`.
    Topics(TopicsPlan),
}

/// What a run brought.
pub(crate) struct Outcome {
    pub(crate) tally: Tally,
    pub(crate) window: Window,
    /// Of each worker, at both edges of the window.
    pub(crate) marks: Vec<Vec<Mark>>,
    pub(crate) seconds: Vec<Interval>,
    /// One a second, with the seconds since the start.
    pub(crate) memory: Vec<(f64, Memory)>,
    pub(crate) allowed_cpus: Option<usize>,
    /// Ended early by the user.
    pub(crate) interrupted: bool,
}

/// What is told while a run goes on.
pub(crate) enum Progress<'a> {
    /// Connections are being opened.
    Opening,
    /// All that could be opened are open.
    Ready,
    /// A second has passed.
    Second { number: usize, of: usize, planned_per_second: Option<f64>, interval: &'a Interval },
}

/// The TLS client for `wss://`.
///
/// # Errors
///
/// A sentence.
pub(crate) fn tls_dial(target: &Target, roots: Option<Vec<u8>>, full: bool) -> Result<Option<TlsDial>, String> {
    match target.scheme {
        Scheme::Ws | Scheme::Tcp => Ok(None),
        Scheme::Wss => TlsDial::new(roots, full).map(Some),
    }
}

/// Runs a load.
///
/// # Errors
///
/// A sentence that says why there is no result.
pub(crate) fn conduct(
    load: &Load,
    observer: Option<&Observer>,
    stop: &AtomicBool,
    mut tell: impl FnMut(Progress<'_>),
) -> Result<Outcome, String> {
    let clock = Clock::start();
    let board = Arc::new(Board::new());
    let pattern_of = if load.compress { Pattern::of_words } else { Pattern::new };
    let pattern = Arc::new(pattern_of(load.kind, load.plan.message_bytes_max()));
    let worker_count = load.cores.len().min(load.connections).max(1);
    let shared = topics::Common {
        pattern,
        publications: load.plan.publications(),
        accepted: Arc::new(Accepted::new(load.plan.topic_count())),
    };
    let mut threads = Vec::new();
    let mut first_origin = 0;
    for index in 0..worker_count {
        let link_count = load.connections / worker_count + usize::from(index < load.connections % worker_count);
        let thread = Starter { load, clock, board: Arc::clone(&board), index, worker_count, link_count }.start(
            first_origin,
            shared.clone(),
            observer.filter(|_| index == 0).cloned(),
        )?;
        threads.push(thread);
        first_origin += link_count as u32;
    }
    let mut memory = Vec::new();
    tell(Progress::Opening);
    let measured_s = (load.warm_up + load.measured + load.cool_down).as_secs_f64().ceil() as usize;
    let mut seconds_told = 0;
    let mut next_memory_ns = 0;
    while !threads.iter().all(thread::JoinHandle::is_finished) {
        thread::sleep(POLL);
        if stop.load(Ordering::Relaxed) {
            board.stop.store(true, Ordering::Relaxed);
            if board.timetable.get().is_none() {
                board.fail("interrupted before anything was measured".to_owned());
            }
        }
        // In this order: who has ended has stopped before.
        if threads.iter().any(thread::JoinHandle::is_finished) && board.stopped.load(Ordering::Acquire) < worker_count {
            // A worker that could not even begin, or broke: its reason comes with its end, and nobody waits for it.
            board.fail("a worker could not begin, or broke".to_owned());
        }
        if board.timetable.get().is_none() && board.ready.load(Ordering::Acquire) == worker_count {
            tell(Progress::Ready);
            let _ = board.timetable.set(load.timetable(clock.now_ns()));
        }
        let Some(timetable) = board.timetable.get() else { continue };
        if let Some(observer) = observer
            && clock.now_ns() >= next_memory_ns.max(timetable.start_ns)
            && clock.now_ns() < timetable.window.until_ns
        {
            next_memory_ns = clock.now_ns() + 1_000_000_000;
            if load.watches_memory()
                && let Ok(sample) = observer.memory()
            {
                memory.push(((clock.now_ns() - timetable.start_ns) as f64 / 1e9, sample));
            }
        }
        // A second is complete once all workers have told theirs.
        let seconds = board.seconds.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        while seconds.get(seconds_told).is_some_and(|second| second.workers == worker_count) {
            tell(Progress::Second {
                number: seconds_told + 1,
                of: measured_s,
                planned_per_second: load.plan.rate_per_second(),
                interval: &seconds[seconds_told],
            });
            seconds_told += 1;
        }
    }
    let harvests = threads.into_iter().map(join).collect::<Result<Vec<_>, _>>()?;
    if let Some(reason) = board.failure() {
        return Err(reason);
    }
    let mut tally = Tally::new();
    for harvest in &harvests {
        tally.add(&harvest.tally);
    }
    let window = harvests[0].window;
    let seconds = board.seconds.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
    Ok(Outcome {
        tally,
        window,
        marks: harvests.into_iter().map(|harvest| harvest.marks).collect(),
        seconds,
        memory,
        allowed_cpus: observer.and_then(Observer::allowed_cpus),
        interrupted: stop.load(Ordering::Relaxed),
    })
}

/// What starting one worker needs.
struct Starter<'a> {
    load: &'a Load,
    clock: Clock,
    board: Arc<Board>,
    index: usize,
    worker_count: usize,
    link_count: usize,
}

impl Starter<'_> {
    fn start(
        self,
        first_origin: u32,
        shared: topics::Common,
        observer: Option<Observer>,
    ) -> Result<thread::JoinHandle<std::io::Result<Harvest>>, String> {
        let Self { load, clock, board, index, worker_count, link_count } = self;
        let assignment = Assignment {
            index,
            worker_count,
            core: load.cores.get(index).copied(),
            spin: load.spin,
            raw: load.target.scheme == Scheme::Tcp,
            link_count,
            open_first: if load.plan.opens_first() { link_count } else { 0 },
            ramp_per_second: load.ramp_per_second,
            read_bytes: load.plan.read_bytes(),
            message_bytes_max: load.plan.message_bytes_max().max(1 << 20),
            sources: load.sources.clone(),
            query_of: load.plan.query_of(first_origin),
            seed: seed()?,
        };
        let dial = Dial {
            target: load.target.clone(),
            address: load.address,
            tls: load.tls.clone(),
            headers: load.headers.clone(),
            subprotocols: load.subprotocols.clone(),
            compress: load.compress,
            timeout: load.timeout,
            ring: true,
        };
        let plan = load.plan.clone();
        thread::Builder::new()
            .name(format!("load-{index}"))
            .spawn(move || {
                let place = Place { worker_index: index, worker_count, first_link: first_origin as usize, link_count };
                let scenario = plan.scenario(shared, place);
                worker::run(assignment, dial, scenario, observer, clock, board)
            })
            .map_err(|error| format!("a thread cannot be started: {error}"))
    }
}

impl Load {
    /// When what happens, if all is ready at `now_ns`.
    fn timetable(&self, now_ns: u64) -> Timetable {
        let subscribes = matches!(&self.plan, ScenarioPlan::Fanout(plan) if plan.subscribe.is_some());
        let settle = if subscribes { SETTLE_SUBSCRIBED } else { SETTLE };
        let start_ns = now_ns + settle.as_nanos() as u64;
        let from_ns = start_ns + self.warm_up.as_nanos() as u64;
        let until_ns = from_ns + self.measured.as_nanos() as u64;
        let stop_ns = until_ns + self.cool_down.as_nanos() as u64;
        let drained_by_ns = stop_ns + self.timeout.as_nanos() as u64;
        Timetable { start_ns, window: Window { from_ns, until_ns }, stop_ns, drained_by_ns }
    }

    /// Reading it walks the server's pages, which would disturb short slices.
    fn watches_memory(&self) -> bool {
        self.measured >= Duration::from_secs(2)
    }
}

impl ScenarioPlan {
    /// As the command line calls it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Echo(_) => "echo",
            Self::Idle(_) => "idle",
            Self::Fanout(_) => "fanout",
            Self::Storm(_) => "storm",
            Self::Slow(_) => "slow",
            Self::Topics(TopicsPlan { drop: None, .. }) => "fanout",
            Self::Topics(TopicsPlan { drop: Some(_), .. }) => "recovery",
        }
    }

    /// What is due per second, if there is a rate.
    pub(crate) fn rate_per_second(&self) -> Option<f64> {
        match self {
            Self::Echo(plan) => plan.rate_per_second,
            Self::Idle(plan) => plan.pings_per_second,
            Self::Fanout(plan) => match plan.pace {
                Pace::Open { rate_per_second, .. } => Some(rate_per_second),
                Pace::Closed { .. } => None,
            },
            Self::Storm(StormPlan::Churn { rate_per_second, .. }) => *rate_per_second,
            Self::Storm(StormPlan::Drop { echo, .. }) => echo.rate_per_second,
            Self::Slow(plan) => plan.echo.rate_per_second,
            Self::Topics(plan) => Some(plan.rate_per_second),
        }
    }

    /// Messages under way per connection at most, or publications in all; `None` without a limit, or where it means nothing.
    pub(crate) fn inflight(&self) -> Option<usize> {
        if let Self::Fanout(FanoutPlan { pace: Pace::Closed { inflight }, .. }) = self {
            return Some(*inflight);
        }
        self.echo().map(|echo| echo.inflight).filter(|&inflight| inflight != usize::MAX)
    }

    /// Payloads, as they were asked for.
    pub(crate) fn sizes(&self) -> String {
        match self {
            Self::Fanout(plan) => plan.len.to_string(),
            Self::Topics(plan) => plan.len.to_string(),
            Self::Echo(_) | Self::Idle(_) | Self::Storm(_) | Self::Slow(_) => {
                self.echo().map_or_else(|| "0".to_owned(), |echo| echo.sizes.to_string())
            }
        }
    }

    fn echo(&self) -> Option<&EchoPlan> {
        match self {
            Self::Echo(echo) | Self::Storm(StormPlan::Drop { echo, .. }) => Some(echo),
            Self::Slow(plan) => Some(&plan.echo),
            Self::Idle(_) | Self::Fanout(_) | Self::Topics(_) | Self::Storm(StormPlan::Churn { .. }) => None,
        }
    }

    fn message_bytes_max(&self) -> usize {
        let slow_len = if let Self::Slow(plan) = self { plan.slow_len } else { 0 };
        let fanout_len = match self {
            Self::Fanout(plan) => plan.len,
            Self::Topics(plan) => plan.len,
            Self::Echo(_) | Self::Idle(_) | Self::Storm(_) | Self::Slow(_) => 0,
        };
        let idle_len = if let Self::Idle(_) = self { idle::TALK_BYTES } else { 0 };
        self.echo().map_or(0, |echo| echo.sizes.max()).max(slow_len).max(fanout_len).max(idle_len)
    }

    /// Whether all links are opened before the start.
    fn opens_first(&self) -> bool {
        !matches!(self, Self::Storm(StormPlan::Churn { .. }))
    }

    /// Bytes asked for by one read, at first: each link has a buffer.
    fn read_bytes(&self) -> usize {
        match self {
            Self::Echo(_) | Self::Slow(_) => 16 << 10,
            Self::Fanout(_) | Self::Topics(_) | Self::Storm(_) => 4 << 10,
            Self::Idle(_) => 512,
        }
    }

    /// What the workers of a fan-out tell each other; next to nothing for all others.
    fn publications(&self) -> Arc<Publications> {
        Arc::new(match self {
            Self::Fanout(plan) => Publications::new(plan.publishers, plan.topics, self.inflight().unwrap_or(1)),
            Self::Topics(plan) => Publications::new(plan.publishers, plan.hall.topics as usize, 1),
            Self::Echo(_) | Self::Idle(_) | Self::Storm(_) | Self::Slow(_) => Publications::none(),
        })
    }

    /// What stands in the query of each link's URL; `first_link` are those of the workers before.
    fn query_of(&self, first_link: u32) -> Option<worker::QueryOf> {
        let Self::Idle(IdlePlan { topics: Some(topics), .. }) = self else { return None };
        if topics.is_v1 {
            return None;
        }
        let (topics, first_link) = (topics.clone(), u64::from(first_link));
        // Letters, digits, dots, dashes and underscores: nothing to escape.
        let token = topics.token.as_ref().map_or_else(String::new, |token| format!("&token={token}"));
        Some(Box::new(move |slot| format!("topic={}{token}", topics.topic_of(first_link + slot as u64))))
    }

    /// Topics of which the workers tell each other where they stand.
    fn topic_count(&self) -> usize {
        if let Self::Topics(plan) = self { plan.hall.topics as usize } else { 0 }
    }

    fn scenario(self, shared: topics::Common, place: Place) -> Box<dyn Scenario> {
        let topics::Common { pattern, publications, .. } = shared.clone();
        let (first_origin, link_count) = (place.first_link as u32, place.link_count);
        match self {
            Self::Echo(plan) => Box::new(Echo::new(plan, pattern, first_origin, link_count)),
            Self::Idle(plan) => Box::new(Idle::new(plan, pattern, first_origin, link_count)),
            Self::Fanout(plan) => Box::new(Fanout::new(plan, place, pattern, publications)),
            Self::Topics(plan) => Box::new(Topics::new(plan, place, shared)),
            Self::Storm(StormPlan::Churn { rate_per_second, hold_ns }) => {
                Box::new(Churn::new(rate_per_second, hold_ns, link_count))
            }
            Self::Storm(StormPlan::Drop { share, echo }) => {
                Box::new(storm::Drop::new(share, echo, pattern, first_origin, link_count))
            }
            Self::Slow(plan) => Box::new(Slow::new(plan, pattern, first_origin, link_count)),
        }
    }
}

fn join(thread: thread::JoinHandle<std::io::Result<Harvest>>) -> Result<Harvest, String> {
    match thread.join() {
        Ok(Ok(harvest)) => Ok(harvest),
        Ok(Err(error)) => Err(format!("a worker failed: {error}")),
        Err(_) => Err("a worker panicked: this is a fault of this tool".to_owned()),
    }
}

fn seed() -> Result<u64, String> {
    let mut seed = [0; 8];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut seed))
        .map_err(|error| format!("/dev/urandom cannot be read: {error}"))?;
    Ok(u64::from_ne_bytes(seed))
}

/// How often the conductor looks.
const POLL: Duration = Duration::from_millis(5);
/// Between the last connection and the first message.
const SETTLE: Duration = Duration::from_millis(20);
/// The same where subscriptions must have been heard of first.
const SETTLE_SUBSCRIBED: Duration = Duration::from_millis(500);
