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

/// Field 22 (proc_pid_stat(5)). Field 2, the name, is in parentheses and may contain anything, parentheses included.
fn start_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(22 - 3)?.parse().ok()
}

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
    fn another_descriptor_is_counted() {
        let before = open_fds().expect("open_fds");
        let held: Vec<_> = (0..50).map(|_| fs::File::open("/dev/null").expect("/dev/null")).collect();
        let during = open_fds().expect("open_fds");
        drop(held);
        // Other tests open and close files at the same time.
        assert!(during >= before + 30, "{before} {during}");
    }

    #[test]
    fn a_process_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let stat = "42 (a) b) (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20 21";
        assert_eq!(start_ticks(stat), Some(777));
        assert_eq!(start_ticks("42 (name) S 1"), None);
        assert_eq!(start_ticks(""), None);
    }
}
