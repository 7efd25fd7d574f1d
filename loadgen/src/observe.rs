//! What `/proc` tells of the server and of the machine: CPU, memory, who else was busy.
//!
//! A server may be several processes: the one that is named and its children, and theirs. They come and go between
//! two looks; what those who went have used is known from their parents, to a hundredth of a second.

mod parse;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;

use parse::Stat;

/// Watches a process and its children.
#[derive(Clone, Debug)]
pub(crate) struct Observer {
    pid: u32,
}

/// One look at the processes and at the machine.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observed {
    processes: Vec<Process>,
    /// In ticks of 10 ms: good for the share only.
    pub(crate) user_ticks: u64,
    pub(crate) system_ticks: u64,
    /// Time that the machine's CPUs spent on anything at all, in ticks.
    pub(crate) machine_busy_ticks: u64,
    /// Time that the hypervisor gave to others, in ticks.
    pub(crate) machine_steal_ticks: u64,
}

/// One look at one process.
#[derive(Clone, Debug, Default)]
struct Process {
    pid: u32,
    stat: Stat,
    /// CPU of each thread that lives, in nanoseconds, by thread id.
    threads: Vec<(u32, u64)>,
}

/// Memory of the processes and of the kernel, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Proportional set size: shared pages are divided among those who share them, so that a sum over processes
    /// counts each once.
    pub(crate) pss_bytes: u64,
    /// Counts what processes share once for each of them.
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
        // The first must be there; all others may end while they are looked at.
        let mut processes = vec![Process::look_at(self.pid)?];
        processes.extend(descendants(self.pid).into_iter().filter_map(|pid| Process::look_at(pid).ok()));
        let machine = fs::read_to_string("/proc/stat")?;
        let (machine_busy_ticks, machine_steal_ticks) = parse::machine(&machine).unwrap_or_default();
        Ok(Observed {
            user_ticks: processes.iter().map(|process| process.stat.user_ticks).sum(),
            system_ticks: processes.iter().map(|process| process.stat.system_ticks).sum(),
            processes,
            machine_busy_ticks,
            machine_steal_ticks,
        })
    }

    pub(crate) fn memory(&self) -> io::Result<Memory> {
        let rollup = |pid: u32| fs::read_to_string(format!("/proc/{pid}/smaps_rollup"));
        let mut rollups = vec![rollup(self.pid)?];
        rollups.extend(descendants(self.pid).into_iter().filter_map(|pid| rollup(pid).ok()));
        let sum = |name: &str| rollups.iter().filter_map(|text| parse::kib_of(text, name)).sum();
        let machine = fs::read_to_string("/proc/meminfo")?;
        let sockets = fs::read_to_string("/proc/net/sockstat")?;
        Ok(Memory {
            pss_bytes: sum("Pss:"),
            rss_bytes: sum("Rss:"),
            slab_unreclaimable_bytes: parse::kib_of(&machine, "SUnreclaim:").unwrap_or(0),
            slab_bytes: parse::kib_of(&machine, "Slab:").unwrap_or(0),
            tcp_memory_bytes: parse::tcp_pages(&sockets).unwrap_or(0) * rustix::param::page_size() as u64,
        })
    }

    /// How many CPUs the processes may run on, all together.
    pub(crate) fn allowed_cpus(&self) -> Option<usize> {
        let of_process = |pid: u32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
            parse::cpus(list.trim())
        };
        let mut cpus = of_process(self.pid)?;
        cpus.extend(descendants(self.pid).into_iter().filter_map(of_process).flatten());
        Some(cpus.len())
    }

    /// How many files the processes may hold open, all together, by the limit that holds now. `None` if it cannot
    /// be read.
    pub(crate) fn open_files_max(&self) -> Option<u64> {
        let of_process = |pid: u32| {
            let limits = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
            parse::open_files_max(&limits)
        };
        let others = descendants(self.pid).into_iter().filter_map(of_process);
        Some(others.fold(of_process(self.pid)?, u64::saturating_add))
    }
}

impl Observed {
    /// CPU used since `earlier` by all threads of all processes, in nanoseconds.
    pub(crate) fn cpu_ns_since(&self, earlier: &Self) -> u64 {
        let of_living: u64 = self.processes.iter().map(|process| process.cpu_ns_since(earlier.find(process))).sum();
        of_living + self.ended_ns_since(earlier)
    }

    /// CPU used since `earlier` by the busiest thread, in nanoseconds.
    pub(crate) fn busiest_ns_since(&self, earlier: &Self) -> u64 {
        let of_process = |process: &Process| process.per_thread_since(earlier.find(process)).max();
        self.processes.iter().filter_map(of_process).max().unwrap_or(0)
    }

    /// CPU that processes which are gone have used since `earlier`: what their parents have been told at their end,
    /// less what they had used before.
    fn ended_ns_since(&self, earlier: &Self) -> u64 {
        let told_ticks = |process: &Process| {
            let before = earlier.find(process).map_or(0, |process| process.stat.reaped_ticks);
            process.stat.reaped_ticks.saturating_sub(before)
        };
        let told_ns = self.processes.iter().map(told_ticks).sum::<u64>() * NS_PER_TICK;
        let gone = earlier.processes.iter().filter(|process| self.find(process).is_none());
        let known_ns: u64 = gone.map(|process| process.cpu_ns() + process.stat.reaped_ticks * NS_PER_TICK).sum();
        told_ns.saturating_sub(known_ns)
    }

    fn find(&self, process: &Process) -> Option<&Process> {
        let same =
            |other: &&Process| other.pid == process.pid && other.stat.started_ticks == process.stat.started_ticks;
        self.processes.iter().find(same)
    }
}

impl Process {
    fn look_at(pid: u32) -> io::Result<Self> {
        let mut threads = Vec::new();
        for thread in threads_of(pid)? {
            // A thread may end between the two looks.
            if let Ok(text) = fs::read_to_string(format!("/proc/{pid}/task/{thread}/schedstat"))
                && let Some(cpu_ns) = parse::schedstat(&text)
            {
                threads.push((thread, cpu_ns));
            }
        }
        let stat = parse::stat(&fs::read_to_string(format!("/proc/{pid}/stat"))?).unwrap_or_default();
        Ok(Self { pid, stat, threads })
    }

    fn cpu_ns(&self) -> u64 {
        self.threads.iter().map(|&(_, cpu_ns)| cpu_ns).sum()
    }

    fn cpu_ns_since(&self, earlier: Option<&Self>) -> u64 {
        let of_living = self.per_thread_since(earlier).sum();
        let Some(earlier) = earlier else { return of_living };
        let lives = |thread: u32| self.threads.iter().any(|&(known, _)| known == thread);
        if earlier.threads.iter().all(|&(thread, _)| lives(thread)) {
            return of_living;
        }
        // A thread that has ended is in the ticks of its process only.
        let ticks = |stat: Stat| stat.user_ticks + stat.system_ticks;
        of_living.max(ticks(self.stat).saturating_sub(ticks(earlier.stat)) * NS_PER_TICK)
    }

    fn per_thread_since(&self, earlier: Option<&Self>) -> impl Iterator<Item = u64> {
        self.threads.iter().map(move |&(thread, cpu_ns)| {
            let known = earlier.and_then(|earlier| earlier.threads.iter().find(|&&(known, _)| known == thread));
            cpu_ns.saturating_sub(known.map_or(0, |&(_, cpu_ns)| cpu_ns))
        })
    }
}

/// Bytes in each of the kernel's caches, by name.
///
/// # Errors
///
/// Where they may not be read, as by anybody but root.
pub(crate) fn kernel_caches() -> io::Result<BTreeMap<String, u64>> {
    Ok(parse::slabs(&fs::read_to_string("/proc/slabinfo")?))
}

/// The children of a process, and theirs, as far as the kernel tells.
fn descendants(pid: u32) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    let mut parents = vec![pid];
    while let Some(parent) = parents.pop() {
        for thread in threads_of(parent).unwrap_or_default() {
            let children = fs::read_to_string(format!("/proc/{parent}/task/{thread}/children")).unwrap_or_default();
            let children = children.split_ascii_whitespace().filter_map(|child| child.parse().ok());
            // Who starts this tool and has it watch himself does not mean this tool.
            let others = children.filter(|&child| child != std::process::id());
            parents.extend(others.filter(|&child| found.insert(child)));
        }
    }
    found
}

fn threads_of(pid: u32) -> io::Result<Vec<u32>> {
    let mut threads = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        threads.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    Ok(threads)
}

/// A tick of `/proc/PID/stat`: `USER_HZ` is 100 on every architecture that Linux is built for today.
const NS_PER_TICK: u64 = 10_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, ticks: u64, reaped_ticks: u64, threads: &[(u32, u64)]) -> Process {
        let stat = Stat { user_ticks: ticks, system_ticks: 0, reaped_ticks, started_ticks: 1 };
        Process { pid, stat, threads: threads.to_vec() }
    }

    fn observed(processes: Vec<Process>) -> Observed {
        Observed { processes, ..Observed::default() }
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
        assert!(observer.open_files_max().unwrap() > 0);
        assert!(Observer::new(u32::MAX / 2).is_err());
    }

    #[test]
    fn processes_and_threads_that_come_and_go_are_counted() {
        const TICK: u64 = NS_PER_TICK;
        let before = observed(vec![
            process(1, 100, 7, &[(1, 1_000)]),
            process(2, 5, 0, &[(2, 5 * TICK)]),
            process(3, 10, 0, &[(3, 500), (4, 9 * TICK)]),
        ]);
        // 2 has ended after 3 more ticks and 1 knows it; 3 lost a thread that had used 2 more; 5 is new.
        let after = observed(vec![
            process(1, 100, 7 + 8, &[(1, 1_400)]),
            process(3, 12, 0, &[(3, 600)]),
            process(5, 0, 0, &[(5, 30)]),
        ]);
        assert_eq!(after.cpu_ns_since(&before), 400 + 2 * TICK + 30 + 3 * TICK);
        assert_eq!(after.busiest_ns_since(&before), 400);
        assert_eq!(after.cpu_ns_since(&after), 0);
    }

    #[test]
    fn a_number_that_is_given_again_is_another_process() {
        let before = observed(vec![process(1, 0, 0, &[(1, 0)]), process(2, 50, 0, &[(2, 900)])]);
        let mut again = process(2, 0, 0, &[(2, 40)]);
        again.stat.started_ticks = 2;
        let after = observed(vec![process(1, 0, 0, &[(1, 0)]), again]);
        assert_eq!(after.cpu_ns_since(&before), 40);
    }

    #[test]
    fn children_are_followed() {
        // A shell that stays and has a child, which has one.
        let mut shell = std::process::Command::new("sh")
            .args(["-c", "sh -c 'sleep 60 & while :; do :; done' & wait"])
            .spawn()
            .expect("there is a shell");
        let observer = Observer::new(shell.id()).unwrap();
        let began = std::time::Instant::now();
        while descendants(shell.id()).len() < 2 && began.elapsed().as_secs() < 20 {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let before = observer.observe().unwrap();
        let family = descendants(shell.id());
        let used_ns = || observer.observe().unwrap().cpu_ns_since(&before);
        while used_ns() <= 10_000_000 && began.elapsed().as_secs() < 20 {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let used_ns = used_ns();
        let (all, alone) = (
            observer.memory().unwrap(),
            parse::kib_of(&fs::read_to_string(format!("/proc/{}/smaps_rollup", shell.id())).unwrap(), "Rss:"),
        );
        for pid in family.iter().copied().chain([shell.id()]) {
            let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        shell.wait().unwrap();
        assert_eq!(family.len(), 2, "the one that is busy, and its own");
        assert!(used_ns > 10_000_000, "the grandchild was busy for {used_ns} ns");
        assert!(all.rss_bytes > alone.unwrap());
    }
}
