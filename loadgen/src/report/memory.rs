//! What connections cost the server in memory, from what `/proc` said before, meanwhile and after.

use std::fmt::{self, Display, Formatter};

use serde::Serialize;

use crate::units::{show_bytes, show_count};

/// What the server's connections cost.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct MemoryReport {
    pub(crate) connections: u64,
    pub(crate) processes: usize,
    /// The server's proportional set size.
    pub(crate) user_bytes_per_connection: f64,
    /// Kernel objects of the whole machine, both ends of each connection and this tool's operations included.
    pub(crate) kernel_slab_bytes_per_connection: f64,
    /// Bytes in socket buffers, both ends.
    pub(crate) kernel_socket_bytes_per_connection: f64,
    /// Kernel objects of epoll, of io_uring and of `kmalloc`; `null` where `/proc/slabinfo` may not be read.
    pub(crate) kernel_beyond_sockets_bytes_per_connection: Option<f64>,
    /// The same by cache, the largest first; small ones are left out.
    pub(crate) kernel_caches: Option<Vec<CacheReport>>,
    pub(crate) before_pss_bytes: u64,
    pub(crate) after_pss_bytes: u64,
    pub(crate) opening_s: f64,
    /// While each said something now and then.
    pub(crate) sparse: Option<SparseReport>,
    /// After all had talked as fast as it went, and fallen silent.
    pub(crate) after_heat: Option<HeatReport>,
    /// After each wave had left.
    pub(crate) waves: Vec<WaveReport>,
}

/// One of the kernel's caches.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct CacheReport {
    pub(crate) name: String,
    pub(crate) bytes_per_connection: f64,
}

/// While each connection said something now and then.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SparseReport {
    pub(crate) every_s: f64,
    pub(crate) measured_s: f64,
    pub(crate) messages: u64,
    pub(crate) cpu_per_message_ns: Option<f64>,
    pub(crate) user_bytes_per_connection: f64,
}

/// After heat and silence.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct HeatReport {
    pub(crate) hot_s: f64,
    pub(crate) settled_s: f64,
    pub(crate) messages: u64,
    pub(crate) user_bytes_per_connection: f64,
    pub(crate) kernel_slab_bytes_per_connection: f64,
}

/// After a wave had left.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct WaveReport {
    pub(crate) connections: u64,
    pub(crate) hot_messages: u64,
    pub(crate) resident_bytes: u64,
    pub(crate) pss_bytes: u64,
}

impl Display for MemoryReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "memory     per connection: {:.0} B user (PSS), {:.0} B kernel objects, {:.0} B socket buffers\n           \
             {} connections from {} process(es), opened in {:.1} s; the kernel's part counts both ends",
            self.user_bytes_per_connection,
            self.kernel_slab_bytes_per_connection,
            self.kernel_socket_bytes_per_connection,
            show_count(self.connections),
            self.processes,
            self.opening_s,
        )?;
        self.kernel_lines(f)?;
        if let Some(sparse) = &self.sparse {
            let cpu = sparse.cpu_per_message_ns.map_or_else(String::new, |ns| format!("{ns:.0} ns CPU per message, "));
            writeln!(
                f,
                "sparse     {} messages in {:.1} s, one each {} s: {cpu}{:.0} B user per connection meanwhile",
                show_count(sparse.messages),
                sparse.measured_s,
                sparse.every_s,
                sparse.user_bytes_per_connection,
            )?;
        }
        if let Some(heat) = &self.after_heat {
            writeln!(
                f,
                "after heat {} messages in {} s, then {} s of silence: {:.0} B user, {:.0} B kernel objects per connection",
                show_count(heat.messages),
                heat.hot_s,
                heat.settled_s,
                heat.user_bytes_per_connection,
                heat.kernel_slab_bytes_per_connection,
            )?;
        }
        self.wave_lines(f)
    }
}

impl MemoryReport {
    /// Resident memory after the last wave by that after the first; `None` of fewer than two.
    pub(crate) fn growth(&self) -> Option<f64> {
        let [first, .., last] = self.waves.as_slice() else { return None };
        Some(last.resident_bytes as f64 / first.resident_bytes.max(1) as f64)
    }

    fn kernel_lines(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (Some(caches), Some(beyond)) = (&self.kernel_caches, self.kernel_beyond_sockets_bytes_per_connection)
        else {
            return writeln!(
                f,
                "           /proc/slabinfo may not be read: the total of /proc/meminfo is all there is"
            );
        };
        let told: Vec<String> =
            caches.iter().map(|cache| format!("{} {:.0}", cache.name, cache.bytes_per_connection)).collect();
        writeln!(
            f,
            "           of the kernel's, {beyond:.0} B are beyond the sockets (epoll, io_uring, kmalloc); by cache: {}",
            told.join(", ")
        )
    }

    fn wave_lines(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.waves.is_empty() {
            return Ok(());
        }
        let resident: Vec<String> = self.waves.iter().map(|wave| show_bytes(wave.resident_bytes)).collect();
        write!(f, "waves      resident after each: {}", resident.join(", "))?;
        match self.growth() {
            Some(growth) => writeln!(f, " (the last by the first: {growth:.2})"),
            None => writeln!(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_waves_and_of_a_kernel_that_hides() {
        let wave = |resident_bytes| WaveReport { connections: 1, hot_messages: 0, resident_bytes, pss_bytes: 0 };
        let report = MemoryReport {
            connections: 10,
            processes: 1,
            user_bytes_per_connection: 93.4,
            kernel_slab_bytes_per_connection: 9450.0,
            kernel_socket_bytes_per_connection: 0.0,
            kernel_beyond_sockets_bytes_per_connection: None,
            kernel_caches: None,
            before_pss_bytes: 0,
            after_pss_bytes: 0,
            opening_s: 1.0,
            sparse: None,
            after_heat: None,
            waves: vec![wave(1000), wave(1024), wave(1100)],
        };
        let text = report.to_string();
        assert!(text.contains("93 B user") && text.contains("may not be read"), "{text}");
        assert!(text.contains("1000 B, 1.0 KiB, 1.1 KiB (the last by the first: 1.10)"), "{text}");
    }
}
