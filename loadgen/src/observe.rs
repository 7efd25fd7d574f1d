//! What `/proc` tells of the server and of the machine: CPU, memory, who else was busy.

use std::fs;
use std::io;

/// Watches one process.
#[derive(Clone, Debug)]
pub(crate) struct Observer {
    pid: u32,
}

/// One look at a process and at the machine.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observed {
    /// CPU of each thread, in nanoseconds, by thread id.
    pub(crate) threads: Vec<(u32, u64)>,
    /// In ticks of 10 ms: good for the share only.
    pub(crate) user_ticks: u64,
    pub(crate) system_ticks: u64,
    /// Time that the machine's CPUs spent on anything at all, in ticks.
    pub(crate) machine_busy_ticks: u64,
    /// Time that the hypervisor gave to others, in ticks.
    pub(crate) machine_steal_ticks: u64,
}

/// Memory of one process and of the kernel, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Proportional set size: shared pages are divided among those who share them.
    pub(crate) pss_bytes: u64,
    pub(crate) rss_bytes: u64,
    /// Kernel objects that cannot be reclaimed, of the whole machine.
    pub(crate) slab_unreclaimable_bytes: u64,
    pub(crate) slab_bytes: u64,
    /// Buffers of TCP sockets, of the whole network namespace.
    pub(crate) tcp_memory_bytes: u64,
}

impl Observer {
    /// # Errors
    ///
    /// A sentence, if there is no such process or it may not be looked at.
    pub(crate) fn new(pid: u32) -> Result<Self, String> {
        let observer = Self { pid };
        match observer.observe() {
            Ok(_) => Ok(observer),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(format!("there is no process {pid}")),
            Err(error) => Err(format!("process {pid} cannot be observed: {error}")),
        }
    }

    pub(crate) fn observe(&self) -> io::Result<Observed> {
        let mut threads = Vec::new();
        for entry in fs::read_dir(format!("/proc/{}/task", self.pid))? {
            let name = entry?.file_name();
            let Some(thread) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
            // A thread may end between the two looks.
            if let Ok(text) = fs::read_to_string(format!("/proc/{}/task/{thread}/schedstat", self.pid))
                && let Some(cpu_ns) = parse_schedstat(&text)
            {
                threads.push((thread, cpu_ns));
            }
        }
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        let (user_ticks, system_ticks) = parse_stat(&stat).unwrap_or_default();
        let machine = fs::read_to_string("/proc/stat")?;
        let (machine_busy_ticks, machine_steal_ticks) = parse_machine(&machine).unwrap_or_default();
        Ok(Observed { threads, user_ticks, system_ticks, machine_busy_ticks, machine_steal_ticks })
    }

    pub(crate) fn memory(&self) -> io::Result<Memory> {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid))?;
        let machine = fs::read_to_string("/proc/meminfo")?;
        let sockets = fs::read_to_string("/proc/net/sockstat")?;
        Ok(Memory {
            pss_bytes: kib_of(&rollup, "Pss:").unwrap_or(0),
            rss_bytes: kib_of(&rollup, "Rss:").unwrap_or(0),
            slab_unreclaimable_bytes: kib_of(&machine, "SUnreclaim:").unwrap_or(0),
            slab_bytes: kib_of(&machine, "Slab:").unwrap_or(0),
            tcp_memory_bytes: parse_tcp_pages(&sockets).unwrap_or(0) * rustix::param::page_size() as u64,
        })
    }

    /// How many CPUs the process may run on.
    pub(crate) fn allowed_cpus(&self) -> Option<usize> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
        count_cpus(list.trim())
    }
}

impl Observed {
    /// CPU used since `earlier` by all threads, in nanoseconds.
    pub(crate) fn cpu_ns_since(&self, earlier: &Self) -> u64 {
        self.per_thread_since(earlier).sum()
    }

    /// CPU used since `earlier` by the busiest thread, in nanoseconds.
    pub(crate) fn busiest_ns_since(&self, earlier: &Self) -> u64 {
        self.per_thread_since(earlier).max().unwrap_or(0)
    }

    fn per_thread_since(&self, earlier: &Self) -> impl Iterator<Item = u64> {
        self.threads.iter().map(|&(thread, cpu_ns)| {
            let before = earlier.threads.iter().find(|&&(known, _)| known == thread).map_or(0, |&(_, cpu_ns)| cpu_ns);
            cpu_ns.saturating_sub(before)
        })
    }
}

/// Nanoseconds on a CPU: the first number.
fn parse_schedstat(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().next()?.parse().ok()
}

/// utime and stime, counted behind the command's name, which may hold anything.
fn parse_stat(text: &str) -> Option<(u64, u64)> {
    let mut fields = text[text.rfind(')')? + 1..].split_ascii_whitespace().skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// Busy ticks of all CPUs (neither idle nor waiting for a disk nor stolen), and the stolen ones.
fn parse_machine(text: &str) -> Option<(u64, u64)> {
    let fields: Vec<u64> =
        text.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace().filter_map(|f| f.parse().ok()).collect();
    let busy = [0, 1, 2, 5, 6].iter().filter_map(|&at| fields.get(at)).sum();
    Some((busy, fields.get(7).copied().unwrap_or(0)))
}

fn kib_of(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// `TCP: inuse 5 orphan 0 tw 0 alloc 7 mem 3`: pages.
fn parse_tcp_pages(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    let mut words = line.split_ascii_whitespace();
    words.find(|&word| word == "mem")?;
    words.next()?.parse().ok()
}

/// How many CPUs `0-3,5` names.
fn count_cpus(list: &str) -> Option<usize> {
    let mut count = 0;
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        count += (last + 1).checked_sub(first)?;
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_proc_says() {
        assert_eq!(parse_schedstat("123456789 55 7\n"), Some(123_456_789));
        let stat = "12 (a) b (c) R 1 12 12 0 -1 4194560 100 0 0 0 70 30 0 0 20 0 1 0 5 6 7";
        assert_eq!(parse_stat(stat), Some((70, 30)));
        let machine = "cpu  100 1 50 1000 9 2 3 40 0 0\ncpu0 1 2 3\n";
        assert_eq!(parse_machine(machine), Some((156, 40)));
        assert_eq!(kib_of("Rss:  10 kB\nPss:               7 kB\n", "Pss:"), Some(7168));
        assert_eq!(parse_tcp_pages("sockets: used 1\nTCP: inuse 5 orphan 0 tw 0 alloc 7 mem 3\n"), Some(3));
        assert_eq!(count_cpus("0"), Some(1));
        assert_eq!(count_cpus("0-3,5"), Some(5));
    }

    #[test]
    fn this_process_can_be_observed() {
        let observer = Observer::new(std::process::id()).unwrap();
        let before = observer.observe().unwrap();
        let mut sum = 0_u64;
        for n in 0..20_000_000_u64 {
            sum = std::hint::black_box(sum.wrapping_add(n));
        }
        let after = observer.observe().unwrap();
        assert!(after.cpu_ns_since(&before) >= after.busiest_ns_since(&before));
        assert!(observer.memory().unwrap().pss_bytes > 100_000);
        assert!(observer.allowed_cpus().unwrap() > 0);
        assert!(Observer::new(u32::MAX / 2).is_err());
    }
}
