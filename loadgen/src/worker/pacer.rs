//! Keeps time: hands out what is due, and then sleeps until the next moment or spins.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use monoio::net::TcpStream;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

use super::phases::{Phase, Worker};
use super::tasks::start_opening;

/// Keeps time, and opens what is wanted, until the worker is done.
pub(super) async fn pace(worker: Rc<RefCell<Worker>>) {
    let clock = worker.borrow().desk.clock;
    let spin = worker.borrow().assignment.spin;
    let mut timer = Timer::new().expect("a timer needs one descriptor, and room for it was kept");
    // Never set again: waiting for it is waiting for nothing but everybody else's turn.
    let mut past = Timer::new().expect("a timer needs one descriptor, and room for it was kept");
    past.sleep(Duration::ZERO).await;
    let mut turn_ns = clock.now_ns();
    let mut activity = 0;
    loop {
        let now_ns = clock.now_ns();
        let wake_ns = {
            let mut worker = worker.borrow_mut();
            worker.advance(now_ns);
            if worker.phase == Phase::Done {
                break;
            }
            if worker.desk.activity != activity {
                activity = worker.desk.activity;
                worker.busy_ns += now_ns - turn_ns;
            }
            worker.next_wake_ns()
        };
        turn_ns = now_ns;
        start_opening(&worker);
        if spin {
            // A task that woke itself would be run before all others, for ever.
            past.expired().await;
        } else {
            timer.sleep(clock.until(wake_ns)).await;
        }
    }
    // Streams close with an operation of the ring: it must be submitted before the ring ends.
    timer.sleep(Duration::from_millis(2)).await;
}

/// Sleeps to the microsecond: the runtime's own timers know milliseconds.
struct Timer {
    stream: TcpStream,
    /// The same timer, to be set and read.
    descriptor: OwnedFd,
}

impl Timer {
    fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let descriptor = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let stream = TcpStream::from_std(descriptor.try_clone()?.into())?;
        Ok(Self { stream, descriptor })
    }

    async fn sleep(&mut self, span: Duration) {
        // Zero would switch it off.
        let span = span.max(Duration::from_nanos(1));
        let value = Timespec { tv_sec: span.as_secs() as i64, tv_nsec: i64::from(span.subsec_nanos()) };
        let once = Itimerspec { it_interval: Timespec::default(), it_value: value };
        rustix::time::timerfd_settime(&self.descriptor, TimerfdTimerFlags::empty(), &once)
            .expect("a positive time is a good time");
        self.expired().await;
    }

    /// Waits for the moment that was set. Setting another takes back an expiry that nobody has read; without that,
    /// it has expired for good and this is one turn of the loop.
    async fn expired(&self) {
        // An error would come again, and then the loop merely spins.
        let _ = self.stream.readable(false).await;
    }
}
