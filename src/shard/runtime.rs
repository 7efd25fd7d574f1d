//! Which way the kernel is asked: a ladder from io_uring with all flags down to epoll.

use std::fmt;
use std::future::Future;
use std::io;

use monoio::{FusionRuntime, IoUringDriver, LegacyDriver, Runtime, RuntimeBuilder};

use super::ring::Ring;

/// What the operator wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DriverChoice {
    /// The best that the kernel allows.
    #[default]
    Auto,
    /// io_uring or nothing.
    IoUring,
    /// epoll, whatever the kernel could do.
    Epoll,
}

/// A step of the ladder, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rung {
    /// io_uring with every flag that pays, and receives that stay posted (Linux 6.1). On the others every connection stays
    /// cold.
    AllFlags,
    /// io_uring that runs completions when asked (Linux 5.19).
    SomeFlags,
    /// io_uring as it was first.
    Plain,
    /// monoio's epoll driver.
    Epoll,
}

impl Rung {
    /// As the metric `driver_rung` counts it.
    pub fn number(self) -> u64 {
        match self {
            Self::AllFlags => 3,
            Self::SomeFlags => 2,
            Self::Plain => 1,
            Self::Epoll => 0,
        }
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AllFlags => "io_uring (all flags)",
            Self::SomeFlags => "io_uring (no receive stays posted, as before Linux 6.1: every connection stays cold)",
            Self::Plain => "io_uring (without any flag, as before Linux 5.19: every connection stays cold)",
            Self::Epoll => "epoll",
        })
    }
}

/// A core's runtime, and how it came about.
pub(super) struct CoreRuntime {
    runtime: FusionRuntime<IoUringDriver, LegacyDriver>,
    pub(super) rung: Rung,
    /// On the best rung.
    pub(super) ring: Option<Ring>,
    /// Why it is not io_uring, if it could have been.
    pub(super) refusal: Option<io::Error>,
}

impl CoreRuntime {
    /// The best rung that `choice` and the kernel allow.
    ///
    /// # Errors
    ///
    /// If no allowed rung holds: the first refusal.
    pub(super) fn build(choice: DriverChoice) -> io::Result<Self> {
        let mut refusal = None;
        if choice != DriverChoice::Epoll {
            for rung in [Rung::AllFlags, Rung::SomeFlags, Rung::Plain] {
                match on(rung) {
                    Ok((runtime, ring)) => {
                        return Ok(Self { runtime: FusionRuntime::Uring(runtime), rung, ring, refusal: None });
                    }
                    Err(error) => refusal = refusal.or(Some(error)),
                }
            }
        }
        if let (DriverChoice::IoUring, Some(error)) = (choice, &refusal) {
            return Err(io::Error::new(error.kind(), explain(error)));
        }
        let runtime = RuntimeBuilder::<LegacyDriver>::new().build()?;
        Ok(Self { runtime: FusionRuntime::Legacy(runtime), rung: Rung::Epoll, ring: None, refusal })
    }

    pub(super) fn block_on<F: Future>(&mut self, future: F) -> F::Output {
        match &mut self.runtime {
            FusionRuntime::Uring(runtime) => runtime.block_on(future),
            FusionRuntime::Legacy(runtime) => runtime.block_on(future),
        }
    }
}

/// What refused io_uring, and what would mend it.
pub fn explain(error: &io::Error) -> String {
    let mend = match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
        Some(rustix::io::Errno::PERM | rustix::io::Errno::ACCESS) => {
            "a seccomp profile (Docker's and Kubernetes' default) or the sysctl kernel.io_uring_disabled forbids it; \
             allow io_uring_setup, io_uring_enter and io_uring_register, or set the sysctl to 0"
        }
        Some(rustix::io::Errno::NOSYS) => {
            "this kernel has none, or a seccomp profile hides it; Linux 5.6 or later is needed"
        }
        Some(rustix::io::Errno::NOMEM) => {
            "the limit of locked memory is too low; raise RLIMIT_MEMLOCK (ulimit -l) to 64 MiB or more"
        }
        _ => "Linux 5.6 or later is needed",
    };
    format!("io_uring was refused ({error}): {mend}")
}

fn on(rung: Rung) -> io::Result<(Runtime<IoUringDriver>, Option<Ring>)> {
    let ring = match rung {
        Rung::AllFlags => Some(Ring::new()?),
        Rung::SomeFlags | Rung::Plain | Rung::Epoll => None,
    };
    let mut flags = io_uring::IoUring::builder();
    match rung {
        Rung::AllFlags => {
            flags.setup_coop_taskrun().setup_single_issuer();
        }
        Rung::SomeFlags => {
            flags.setup_coop_taskrun();
        }
        Rung::Plain | Rung::Epoll => {}
    }
    let runtime = RuntimeBuilder::<IoUringDriver>::new().with_entries(RUNTIME_ENTRIES).uring_builder(flags).build()?;
    Ok((runtime, ring))
}

/// Few: the core's loop submits nothing here, for it has a ring of its own.
const RUNTIME_ENTRIES: u32 = 256;
