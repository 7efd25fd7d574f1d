//! What the kernel says about this process, under the names that Prometheus clients agree on.

use std::fs;
use std::time::Duration;

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// Figures of this process; `None` where `/proc` does not tell.
#[derive(Clone, Debug, Default)]
pub(super) struct ProcessFigures {
    pub(super) open_fds: Option<u64>,
    /// `None` also when there is no limit.
    pub(super) max_fds: Option<u64>,
    pub(super) resident_bytes: Option<u64>,
    /// User and system time of all threads.
    pub(super) cpu_time: Option<Duration>,
    /// Since the epoch.
    pub(super) started_at: Option<Duration>,
    /// User and system time of each core's thread, by the core in its name, sorted.
    pub(super) core_times: Vec<(usize, Duration)>,
}

impl ProcessFigures {
    /// As they are now.
    pub(super) fn read() -> Self {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        Self {
            open_fds: open_fds(),
            max_fds: getrlimit(Resource::Nofile).current,
            resident_bytes: resident_bytes(),
            cpu_time: Duration::try_from(cpu).ok(),
            started_at: started_at(),
            core_times: core_times(),
        }
    }
}

/// Since Linux 6.2 the size of the directory is the number of descriptors: with a million of them, reading its entries
/// would take longer than everything else here together. Older kernels say 0.
fn open_fds() -> Option<u64> {
    match fs::metadata("/proc/self/fd").ok()?.len() {
        // The directory itself is open while it is read, and is not one of the server's.
        0 => Some((fs::read_dir("/proc/self/fd").ok()?.count() as u64).saturating_sub(1)),
        count => Some(count),
    }
}

/// Second field of `/proc/self/statm`, in pages (proc_pid_statm(5)).
fn resident_bytes() -> Option<u64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    pages.checked_mul(page_size() as u64)
}

/// Since the epoch: boot time from `/proc/stat` and the start in ticks since boot from `/proc/self/stat`.
fn started_at() -> Option<Duration> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let ticks = start_ticks(&stat)?;
    let boot = fs::read_to_string("/proc/stat").ok()?;
    let boot = boot.lines().find_map(|line| line.strip_prefix("btime "))?;
    let since_boot = ticks as f64 / clock_ticks_per_second() as f64;
    let boot = Duration::from_secs(boot.trim().parse().ok()?);
    Some(boot + Duration::try_from_secs_f64(since_boot).ok()?)
}

/// Field 22 (proc_pid_stat(5)).
fn start_ticks(stat: &str) -> Option<u64> {
    fields_after_name(stat)?.nth(22 - 3)?.parse().ok()
}

/// What the kernel counts anyway, so that no core has to look at a clock for it.
fn core_times() -> Vec<(usize, Duration)> {
    let Ok(threads) = fs::read_dir("/proc/self/task") else { return Vec::new() };
    let stats = threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("stat")).ok());
    let mut times: Vec<_> = stats.filter_map(|stat| core_time(&stat)).collect();
    times.sort_unstable();
    times
}

/// The core in the thread's name, and fields 14 and 15 (proc_pid_stat(5)), in ticks; `None` for other threads.
fn core_time(stat: &str) -> Option<(usize, Duration)> {
    let (name, _) = stat.split_once('(')?.1.rsplit_once(')')?;
    let core = name.strip_prefix(CORE_THREAD)?.parse().ok()?;
    let mut fields = fields_after_name(stat)?.skip(14 - 3);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let seconds = (user + system) as f64 / clock_ticks_per_second() as f64;
    Some((core, Duration::try_from_secs_f64(seconds).ok()?))
}

/// From field 3 on. Field 2, the name, is in parentheses and may contain anything, parentheses included.
fn fields_after_name(stat: &str) -> Option<std::str::SplitWhitespace<'_>> {
    Some(stat.rsplit_once(')')?.1.split_whitespace())
}

/// What the name of a core's thread begins with; its number follows.
const CORE_THREAD: &str = "corewire-";

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn this_process_has_plausible_figures() {
        let figures = ProcessFigures::read();
        let open = figures.open_fds.expect("open_fds");
        assert!((3..100_000).contains(&open), "{open}");
        assert!(figures.max_fds.is_none_or(|max| max >= open));
        assert!(figures.resident_bytes.expect("resident_bytes") > 100_000);
        assert!(figures.cpu_time.expect("cpu_time") > Duration::ZERO);
        let now = UNIX_EPOCH.elapsed().expect("after 1970");
        let age = now.abs_diff(figures.started_at.expect("started_at"));
        assert!(age < Duration::from_secs(24 * 3600), "{age:?}");
    }

    #[test]
    fn all_descriptors_are_counted() {
        const HELD: u64 = 300;
        let held: Vec<_> = (0..HELD).map(|_| fs::File::open("/dev/null").expect("/dev/null")).collect();
        // Other tests open and close files at the same time, so what there was before says nothing.
        let during = open_fds().expect("open_fds");
        drop(held);
        assert!(during > HELD, "{during}");
    }

    #[test]
    fn a_process_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let stat = "42 (a) b) (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20 21";
        assert_eq!(start_ticks(stat), Some(777));
        assert_eq!(start_ticks("42 (name) S 1"), None);
        assert_eq!(start_ticks(""), None);
    }

    #[test]
    fn a_core_is_known_by_the_name_of_its_thread() {
        let stat = |name: &str| format!("42 ({name}) R 1 2 3 4 5 6 7 8 9 10 250 50 13 14 15");
        let second = clock_ticks_per_second() as f64;
        assert_eq!(core_time(&stat("corewire-7")), Some((7, Duration::from_secs_f64(300.0 / second))));
        for other in ["corewire-control", "corewire", "tokio-runtime-w", "corewire-"] {
            assert_eq!(core_time(&stat(other)), None, "{other}");
        }
        assert_eq!(core_time("42 (corewire-7) R 1"), None);
    }

    #[test]
    fn the_time_of_a_busy_thread_grows() {
        const CORE: usize = 4242;
        let time = || core_times().into_iter().find(|(core, _)| *core == CORE).map(|(_, time)| time);
        let (ready, done) = (std::sync::Barrier::new(2), std::sync::Barrier::new(2));
        std::thread::scope(|scope| {
            let busy = std::thread::Builder::new().name(format!("{CORE_THREAD}{CORE}"));
            let spin = || {
                let mut x = 0u64;
                while time().is_none_or(|time| time < Duration::from_millis(50)) {
                    x = std::hint::black_box(x + 1);
                }
                ready.wait();
                done.wait();
            };
            busy.spawn_scoped(scope, spin).expect("a thread");
            ready.wait();
            assert!(time().expect("it lives") >= Duration::from_millis(50));
            done.wait();
        });
    }
}
