//! Starts a thread per core: all of them, or none.

use std::io;
use std::sync::{Arc, mpsc};
use std::thread;

use super::{Builder, Handle, StartError};
use crate::handler::Handler;
use crate::mesh::{Census, Mesh};
use crate::metrics::ShardMetrics;
use crate::shard::{self, BellFd, Core, CoreOptions, Envelope, Rung, ShardOptions, explain};

/// Cores that run.
pub(super) struct Started {
    pub(super) handle: Handle,
    pub(super) threads: Vec<thread::JoinHandle<()>>,
    pub(super) rungs: Vec<Rung>,
    /// Why some core does not run on io_uring.
    pub(super) refusal: Option<String>,
}

/// What a core says when it is ready, or cannot be.
struct Report {
    index: usize,
    outcome: io::Result<(Rung, Option<String>)>,
}

impl Builder {
    /// Starts the cores. `listeners` are each core's own.
    pub(super) fn start_cores<H: Handler>(
        self,
        cores: &[usize],
        listeners: Vec<Vec<shard::Listener>>,
        handler: &Arc<impl Fn(usize) -> H + Send + Sync + 'static>,
    ) -> Result<Started, StartError> {
        let (handle, options) = self.equip(cores, listeners)?;
        let (report, reports) = mpsc::channel();
        let mut threads = Vec::new();
        let mut failure = None;
        for (index, options) in options.into_iter().enumerate() {
            let (handler, report, core) = (handler.clone(), report.clone(), cores[index]);
            let thread = thread::Builder::new()
                .name(format!("corewire-{core}"))
                .spawn(move || run_core(index, core, &*handler, options, report));
            match thread {
                Ok(thread) => threads.push(thread),
                Err(error) => failure = failure.or(Some(StartError::Thread { core, error })),
            }
        }
        drop(report);
        match gather(cores, reports, failure) {
            Ok((rungs, refusal)) => Ok(Started { handle, threads, rungs, refusal }),
            Err(error) => {
                handle.tell_all(|| Envelope::Stop);
                // So that their listeners are gone when this returns. What their end was like says nothing more.
                threads.into_iter().for_each(|thread| drop(thread.join()));
                Err(error)
            }
        }
    }

    /// The mesh between the cores, and what each core is made of.
    fn equip(
        self,
        cores: &[usize],
        listeners: Vec<Vec<shard::Listener>>,
    ) -> Result<(Handle, Vec<CoreOptions>), StartError> {
        let pairs = cores.iter().map(|&core| BellFd::pair().map_err(|error| StartError::Thread { core, error }));
        let (bells, ringers): (Vec<_>, Vec<_>) = pairs.collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
        let mesh = Mesh::new(ringers, ring_capacity(cores.len()));
        let handle = Handle {
            outside: mesh.outside.into(),
            metrics: cores.iter().map(|_| Arc::new(ShardMetrics::default())).collect(),
            census: Arc::new(Census::new(self.connections_max)),
            drain_delay: self.drain_delay,
            drain_time: self.drain_time,
        };
        let parts = mesh.cores.into_iter().zip(listeners).zip(bells).enumerate();
        let options = parts.map(|(index, (((post, mailbox), listeners), bell))| CoreOptions {
            shard: self.shard_options(index, &handle),
            driver: self.driver,
            listeners,
            bell,
            post,
            mailbox,
            outside: handle.outside[index].clone(),
            restless: self.restless,
            on_calm: self.on_calm,
        });
        let options = options.collect();
        Ok((handle, options))
    }

    fn shard_options(&self, index: usize, handle: &Handle) -> ShardOptions {
        ShardOptions {
            core: u16::try_from(index).expect("no machine has that many cores"),
            limits: self.limits.clone(),
            origin: self.origin.clone(),
            trusted_proxies: self.trusted_proxies.clone().into(),
            #[cfg(feature = "tls")]
            tls: self.tls.clone(),
            census: handle.census.clone(),
            namespaces: self.namespaces.clone(),
            listener: self.outside.clone(),
            metrics: handle.metrics[index].clone(),
            seed: seed(),
        }
    }
}

/// Waits until every core has said something or has ended without a word.
fn gather(
    cores: &[usize],
    reports: mpsc::Receiver<Report>,
    mut failure: Option<StartError>,
) -> Result<(Vec<Rung>, Option<String>), StartError> {
    let mut rungs = vec![None; cores.len()];
    let mut refusal = None;
    for Report { index, outcome } in reports {
        match outcome {
            Ok((rung, refused)) => {
                rungs[index] = Some(rung);
                refusal = refusal.or(refused);
            }
            Err(error) => failure = failure.or(Some(StartError::Thread { core: cores[index], error })),
        }
    }
    match rungs.iter().position(Option::is_none) {
        None => Ok((rungs.into_iter().flatten().collect(), refusal)),
        Some(silent) => Err(failure.unwrap_or_else(|| StartError::Thread {
            core: cores[silent],
            error: io::Error::other("its handler could not be made: it panicked"),
        })),
    }
}

fn run_core<H: Handler>(
    index: usize,
    core: usize,
    handler: &(impl Fn(usize) -> H + Send + Sync),
    options: CoreOptions,
    report: mpsc::Sender<Report>,
) {
    if !core_affinity::set_for_current(core_affinity::CoreId { id: core }) {
        tracing::warn!(core, "the thread could not be pinned to its core");
    }
    let built = Core::new(handler(index), options);
    let (outcome, built) = match built {
        Ok(built) => {
            let (rung, refusal) = built.rung();
            (Ok((rung, refusal.map(explain))), Some(built))
        }
        Err(error) => (Err(error), None),
    };
    // Nobody listens any more if another core has failed already.
    let _ = report.send(Report { index, outcome });
    // The starter waits until every sender is gone.
    drop(report);
    if let Some(core) = built {
        core.run();
    }
}

/// Randomness of the operating system, through the seed of std's hash maps.
fn seed() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}

/// Envelopes per ring, so that all rings of a large machine together stay below some ten megabytes.
fn ring_capacity(core_count: usize) -> usize {
    (16_384 / core_count.max(1)).clamp(128, 1024)
}
