//! The words of `/proc`, and nothing of files.

use std::collections::{BTreeMap, BTreeSet};

/// What `/proc/PID/stat` says of one process, in ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stat {
    /// Of all its threads, also of those that have ended.
    pub(super) user_ticks: u64,
    pub(super) system_ticks: u64,
    /// Of its children that have ended and been waited for, and of theirs.
    pub(super) reaped_ticks: u64,
    /// When it started: tells two processes with the same number apart.
    pub(super) started_ticks: u64,
}

/// Nanoseconds on a CPU: the first number.
pub(super) fn schedstat(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().next()?.parse().ok()
}

/// Counted behind the command's name, which may hold anything.
pub(super) fn stat(text: &str) -> Option<Stat> {
    let fields: Vec<&str> = text[text.rfind(')')? + 1..].split_ascii_whitespace().collect();
    let field = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Stat {
        user_ticks: field(11)?,
        system_ticks: field(12)?,
        reaped_ticks: field(13)? + field(14)?,
        started_ticks: field(19)?,
    })
}

/// Busy ticks of all CPUs (neither idle nor waiting for a disk nor stolen), and the stolen ones.
pub(super) fn machine(text: &str) -> Option<(u64, u64)> {
    let fields: Vec<u64> =
        text.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace().filter_map(|f| f.parse().ok()).collect();
    let busy = [0, 1, 2, 5, 6].iter().filter_map(|&at| fields.get(at)).sum();
    Some((busy, fields.get(7).copied().unwrap_or(0)))
}

/// Bytes, of a line that counts in kB.
pub(super) fn kib_of(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// `TCP: inuse 5 orphan 0 tw 0 alloc 7 mem 3`: pages.
pub(super) fn tcp_pages(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    let mut words = line.split_ascii_whitespace();
    words.find(|&word| word == "mem")?;
    words.next()?.parse().ok()
}

/// The CPUs that `0-3,5` names.
pub(super) fn cpus(list: &str) -> Option<BTreeSet<usize>> {
    let mut cpus = BTreeSet::new();
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        cpus.extend(first..=last);
    }
    Some(cpus)
}

/// The soft limit of open files in `/proc/PID/limits`; `u64::MAX` without one.
pub(super) fn open_files_max(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_ascii_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// Bytes in the objects of each cache in `/proc/slabinfo`: objects in use times their size.
pub(super) fn slabs(text: &str) -> BTreeMap<String, u64> {
    let of_line = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let name = words.next()?.to_owned();
        let active: u64 = words.next()?.parse().ok()?;
        let object_bytes: u64 = words.nth(1)?.parse().ok()?;
        Some((name, active * object_bytes))
    };
    // The two lines of headings have no number where it is looked for.
    text.lines().filter_map(of_line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_proc_says() {
        assert_eq!(schedstat("123456789 55 7\n"), Some(123_456_789));
        let line = "12 (a) b (c) R 1 12 12 0 -1 4194560 100 0 0 0 70 30 5 6 20 0 1 0 99 6 7";
        let want = Stat { user_ticks: 70, system_ticks: 30, reaped_ticks: 11, started_ticks: 99 };
        assert_eq!(stat(line), Some(want));
        let text = "cpu  100 1 50 1000 9 2 3 40 0 0\ncpu0 1 2 3\n";
        assert_eq!(machine(text), Some((156, 40)));
        assert_eq!(kib_of("Rss:  10 kB\nPss:               7 kB\n", "Pss:"), Some(7168));
        assert_eq!(tcp_pages("sockets: used 1\nTCP: inuse 5 orphan 0 tw 0 alloc 7 mem 3\n"), Some(3));
        assert_eq!(cpus("0"), Some(BTreeSet::from([0])));
        assert_eq!(cpus("0-3,5"), Some(BTreeSet::from([0, 1, 2, 3, 5])));
        let limits = "Limit   Soft Limit   Hard Limit   Units\nMax open files            1024    20000    files     \n";
        assert_eq!(open_files_max(limits), Some(1024));
        assert_eq!(open_files_max("Max open files  unlimited unlimited files"), Some(u64::MAX));
        assert_eq!(open_files_max("Max processes  5 5 processes"), None);
    }

    #[test]
    fn caches_of_the_kernel() {
        let text = "slabinfo - version: 2.1\n# name            <active_objs> <num_objs> <objsize> <objperslab>\n\
                    eventpoll_epi  1000   1024    128   32    1 : tunables    0    0    0 : slabdata     32     32  0\n";
        assert_eq!(slabs(text), BTreeMap::from([("eventpoll_epi".to_owned(), 128_000)]));
    }
}
