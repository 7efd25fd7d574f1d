//! Builds the shards and the mesh, starts a thread for each, and ends them. The only place that knows everyone.
//!
//! ```no_run
//! use corewire::handler::{Accept, Conn, Handler, Request, Upgrade};
//! use corewire::protocol::Message;
//! use corewire::server::Server;
//!
//! struct Echo;
//!
//! impl Handler for Echo {
//!     type Session = ();
//!     fn upgrade(&mut self, _: &mut Conn<'_>, _: &Request<'_>) -> Upgrade<()> {
//!         Upgrade::Accept(Accept::new(()))
//!     }
//!     fn message(&mut self, conn: &mut Conn<'_>, _: &mut (), message: Message<'_>) {
//!         conn.reply(message).ok();
//!     }
//! }
//!
//! # fn main() -> Result<(), corewire::server::StartError> {
//! Server::builder().listen("127.0.0.1:9000".parse().unwrap()).run(|_core| Echo)
//! # }
//! ```
//!
//! [`Builder::run`] keeps the calling thread. [`Builder::start`] gives it back, with a [`Running`] to end the server by,
//! gracefully or at once, and a [`Handle`] to reach it from any thread:
//!
//! ```no_run
//! # use corewire::builtin::Echo;
//! # use corewire::protocol::MessageKind;
//! # use corewire::server::Server;
//! # fn main() -> Result<(), corewire::server::StartError> {
//! let running = Server::builder().listen("127.0.0.1:0".parse().unwrap()).start(|_core| Echo)?;
//! println!("listening on {:?}", running.local_addr());
//! running.handle().broadcast(MessageKind::Text, "the shop closes".into());
//! running.drain()
//! # }
//! ```

mod starting;

use std::any::Any;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;

use crate::connection::Limits;
pub use crate::handler::Outside;
use crate::handler::{Busy, Handler, Nobody};
use crate::http::Cidr;
use crate::mesh::{self, Census, Full};
use crate::metrics::ShardMetrics;
use crate::protocol::MessageKind;
use crate::protocol::handshake::OriginPolicy;
use crate::shard::{self, AboutTopics, Envelope};
pub use crate::shard::{DriverChoice, ListenAddr, ListenError, Rung, explain};
use crate::topics::{Draft, Namespaces, Party, Publish, Read, Reply, Ticket, ToHome, Topic, Watch, home_of};
use starting::Started;

/// A server to be configured.
#[derive(Clone)]
pub struct Builder {
    listen: Vec<ListenAddr>,
    cores: Option<Vec<usize>>,
    driver: DriverChoice,
    limits: Limits,
    origin: OriginPolicy,
    trusted_proxies: Vec<Cidr>,
    connections_max: usize,
    namespaces: Arc<Namespaces>,
    outside: Arc<dyn Outside>,
    drain_delay: Duration,
    drain_time: Duration,
    on_calm: Option<fn()>,
    restless: bool,
    #[cfg(feature = "tls")]
    tls: Option<crate::tls::ServerTls>,
}

/// Where a server begins: [`Server::builder`].
pub struct Server;

/// A server that runs in threads of its own.
///
/// Dropping it does not stop it; see [`Running::stop`] and [`Running::drain`].
pub struct Running {
    handle: Handle,
    threads: Vec<thread::JoinHandle<()>>,
    addrs: Vec<ListenAddr>,
    rungs: Vec<Rung>,
    refusal: Option<String>,
}

/// Reaches a running server from any thread.
#[derive(Clone)]
pub struct Handle {
    outside: Arc<[mesh::Outside<Envelope>]>,
    metrics: Arc<[Arc<ShardMetrics>]>,
    census: Arc<Census>,
    drain_delay: Duration,
    drain_time: Duration,
}

/// Why a server did not start, or what ended it.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Nowhere to listen.
    #[error("no address to listen on was given")]
    NoAddress,
    /// An address cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A core that the process may not run on.
    #[error("core {core} cannot be used: this process may run on {allowed:?}")]
    Core {
        /// The core that was asked for.
        core: usize,
        /// Those that the affinity mask allows.
        allowed: Vec<usize>,
    },
    /// A core's thread could not begin, or broke.
    #[error("core {core}: {error}")]
    Thread {
        /// Which one.
        core: usize,
        /// The reason.
        error: io::Error,
    },
}

impl Server {
    /// Nothing is configured: no address, all allowed cores, default limits, pages of the same host.
    pub fn builder() -> Builder {
        Builder {
            listen: Vec::new(),
            cores: None,
            driver: DriverChoice::Auto,
            limits: Limits::default(),
            origin: OriginPolicy::SameHost,
            trusted_proxies: Vec::new(),
            connections_max: usize::MAX,
            namespaces: Arc::default(),
            outside: Arc::new(Nobody),
            drain_delay: Duration::ZERO,
            drain_time: Duration::from_secs(5),
            on_calm: None,
            restless: false,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }
}

impl Builder {
    /// Listens on a TCP address; may be called again for more.
    #[must_use]
    pub fn listen(self, addr: SocketAddr) -> Self {
        self.listen_on(ListenAddr::Tcp(addr))
    }

    /// Listens on any kind of address; may be called again for more.
    #[must_use]
    pub fn listen_on(mut self, addr: ListenAddr) -> Self {
        self.listen.push(addr);
        self
    }

    /// Runs on these cores, by the kernel's numbers. Default: all that the affinity mask and the CPU quota allow.
    #[must_use]
    pub fn cores(mut self, cores: Vec<usize>) -> Self {
        self.cores = Some(cores);
        self
    }

    /// io_uring, epoll, or the best there is.
    #[must_use]
    pub fn driver(mut self, driver: DriverChoice) -> Self {
        self.driver = driver;
        self
    }

    /// What each peer may use.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Which pages may open a WebSocket. Default: those of the same host.
    #[must_use]
    pub fn origin(mut self, origin: OriginPolicy) -> Self {
        self.origin = origin;
        self
    }

    /// Proxies whose `X-Forwarded-For` counts.
    #[must_use]
    pub fn trusted_proxies(mut self, proxies: Vec<Cidr>) -> Self {
        self.trusted_proxies = proxies;
        self
    }

    /// Connections over all cores; those beyond get status 503. Default: as many as descriptors allow.
    #[must_use]
    pub fn connections_max(mut self, max: usize) -> Self {
        self.connections_max = max;
        self
    }

    /// How topics behave. Default: one namespace for all, where everybody may subscribe and no client publishes.
    #[must_use]
    pub fn namespaces(mut self, namespaces: Namespaces) -> Self {
        self.namespaces = Arc::new(namespaces);
        self
    }

    /// Who hears what topics answer and tell to other threads. Default: nobody.
    #[must_use]
    pub fn outside(mut self, outside: Arc<dyn Outside>) -> Self {
        self.outside = outside;
        self
    }

    /// How long a drain says "not ready" before it closes the listeners. Default 0.
    #[must_use]
    pub fn drain_delay(mut self, delay: Duration) -> Self {
        self.drain_delay = delay;
        self
    }

    /// Over which time a drain spreads its closes. Default 5 s.
    #[must_use]
    pub fn drain_time(mut self, time: Duration) -> Self {
        self.drain_time = time;
        self
    }

    /// Speaks TLS on every TCP address. Unix sockets stay plain.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, tls: crate::tls::ServerTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Has every core call this on its own thread after a wave of connections has opened, fallen silent or left, when
    /// the core is calm, and at most once per second. The place to make an allocator give freed pages back, which
    /// mostly must be asked on the thread that freed them. It may take some milliseconds. Default: nothing.
    #[must_use]
    pub fn on_calm(mut self, call: fn()) -> Self {
        self.on_calm = Some(call);
        self
    }

    /// For tests: connections change between cold and hot as often as they can.
    #[doc(hidden)]
    #[must_use]
    pub fn restless(mut self, restless: bool) -> Self {
        self.restless = restless;
        self
    }

    /// Runs until another thread stops it or the process ends. `handler` makes one handler per core.
    ///
    /// # Errors
    ///
    /// If it cannot start; see [`StartError`].
    pub fn run<H: Handler>(self, handler: impl Fn(usize) -> H + Send + Sync + 'static) -> Result<(), StartError> {
        self.start(handler)?.wait()
    }

    /// Starts it in threads of its own. When this returns, it listens.
    ///
    /// # Errors
    ///
    /// If it cannot start; see [`StartError`].
    pub fn start<H: Handler>(
        self,
        handler: impl Fn(usize) -> H + Send + Sync + 'static,
    ) -> Result<Running, StartError> {
        let cores = usable_cores(self.cores.as_deref())?;
        let mut bound = Vec::new();
        for addr in &self.listen {
            match shard::bind(addr, cores.len()) {
                Ok(listening) => bound.push(listening),
                Err(error) => {
                    bound.iter().for_each(|listening| shard::unbind(&listening.addr));
                    return Err(error.into());
                }
            }
        }
        if bound.is_empty() {
            return Err(StartError::NoAddress);
        }
        let addrs: Vec<_> = bound.iter().map(|listening| listening.addr.clone()).collect();
        let by_core = (0..cores.len())
            .map(|_| bound.iter_mut().filter_map(|listening| listening.listeners.pop()).collect())
            .collect();
        let started = self.start_cores(&cores, by_core, &Arc::new(handler));
        match started {
            Ok(Started { handle, threads, rungs, refusal }) => Ok(Running { handle, threads, addrs, rungs, refusal }),
            Err(error) => {
                addrs.iter().for_each(shard::unbind);
                Err(error)
            }
        }
    }
}

impl Running {
    /// Where it listens, with the ports that the kernel chose.
    pub fn addrs(&self) -> &[ListenAddr] {
        &self.addrs
    }

    /// The first TCP address it listens on.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.addrs.iter().find_map(|addr| match addr {
            ListenAddr::Tcp(addr) => Some(*addr),
            ListenAddr::Unix { .. } => None,
        })
    }

    /// How each core asks the kernel.
    pub fn rungs(&self) -> &[Rung] {
        &self.rungs
    }

    /// Why it does not run on io_uring, if it tried, and what would mend it.
    pub fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    /// Reaches it from any thread.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Ends gracefully: not ready, no new connections, Close 1001 to everybody, queues written, threads ended.
    ///
    /// # Errors
    ///
    /// If a core's thread had broken.
    pub fn drain(mut self) -> Result<(), StartError> {
        self.handle.tell_all(|| Envelope::NotReady);
        thread::sleep(self.handle.drain_delay);
        self.unbind();
        self.handle.tell_all(|| Envelope::CloseListeners);
        let within = self.handle.drain_time;
        self.handle.tell_all(|| Envelope::Drain(within));
        self.wait()
    }

    /// Ends at once: connections are dropped.
    ///
    /// # Errors
    ///
    /// If a core's thread had broken.
    pub fn stop(mut self) -> Result<(), StartError> {
        self.unbind();
        self.handle.tell_all(|| Envelope::Stop);
        self.wait()
    }

    /// Waits until all cores have ended.
    ///
    /// # Errors
    ///
    /// If a core's thread broke.
    pub fn wait(mut self) -> Result<(), StartError> {
        let mut outcome = Ok(());
        for (core, thread) in self.threads.drain(..).enumerate() {
            if thread.join().is_err() {
                outcome = Err(StartError::Thread { core, error: io::Error::other("its thread panicked") });
            }
        }
        self.unbind();
        outcome
    }

    /// Once, and while we still listen: as soon as nobody does, the path may be another server's.
    fn unbind(&mut self) {
        self.addrs.drain(..).for_each(|addr| shard::unbind(&addr));
    }
}

impl Handle {
    /// Queues a message for every open WebSocket on every core.
    pub fn broadcast(&self, kind: MessageKind, payload: Bytes) {
        self.tell_all(|| Envelope::Broadcast { kind, payload: Bytes::copy_from_slice(&payload) });
    }

    /// Publishes to all subscribers of a topic, on whatever core. That it was queued for the topic's core does not say
    /// that it is accepted there; what is refused is counted.
    ///
    /// # Errors
    ///
    /// [`Busy`] if that core's queue is full.
    pub fn publish(&self, topic: &Topic, draft: Draft) -> Result<(), Busy> {
        self.publish_asking(topic, draft, None, Reply::Nothing, Ticket::NOBODY)
    }

    /// Publishes, and has the answer given to [`Outside::answered`] with this ticket, which is the caller's choice. With
    /// [`Reply::Nothing`] only a refusal is answered, and with [`Ticket::NOBODY`] not even that.
    ///
    /// The same `idempotency_key` within some minutes is the same publication, and published once.
    ///
    /// # Errors
    ///
    /// [`Busy`] if the queue of the topic's core is full.
    pub fn publish_asking(
        &self,
        topic: &Topic,
        draft: Draft,
        idempotency_key: Option<Arc<str>>,
        reply: Reply,
        ticket: Ticket,
    ) -> Result<(), Busy> {
        let publish = Publish { topic: topic.clone(), draft, idempotency_key, ticket, reply };
        self.ask_home(topic, ToHome::Publish(Box::new(publish)))
    }

    /// Asks about a topic: its history, its members or its figures. The answer is given to [`Outside::answered`].
    ///
    /// # Errors
    ///
    /// [`Busy`] if the queue of the topic's core is full.
    pub fn read(&self, topic: &Topic, what: Read, ticket: Ticket) -> Result<(), Busy> {
        self.ask_home(topic, ToHome::Read { topic: topic.clone(), ticket, what })
    }

    /// Asks what is published on one core's topics, for somebody who [watches](Watch). The answer is given to
    /// [`Outside::answered`].
    ///
    /// # Errors
    ///
    /// [`Busy`] if that core's queue is full.
    ///
    /// # Panics
    ///
    /// If there is no such core; see [`Handle::core_count`].
    pub fn watch(&self, core: usize, watch: Watch, ticket: Ticket) -> Result<(), Busy> {
        self.tell_home(core, ToHome::Watch { ticket, watch })
    }

    /// Gives a value to the handler of one core: [`Handler::cast`].
    ///
    /// # Errors
    ///
    /// [`Busy`] if that core's queue is full.
    ///
    /// # Panics
    ///
    /// If there is no such core; see [`Handle::core_count`].
    pub fn cast(&self, core: usize, message: Arc<dyn Any + Send + Sync>) -> Result<(), Busy> {
        self.outside[core].send(Envelope::Cast(message)).map_err(|Full(_)| Busy)
    }

    /// How many cores the server runs on.
    pub fn core_count(&self) -> usize {
        self.outside.len()
    }

    /// How topics behave from now on, on each core as soon as it takes note. Subscriptions stay, whether they are
    /// still permitted or not; what topics keep is cut to new bounds when they are next looked at. Waits while a core's
    /// queue is full.
    pub fn configure(&self, namespaces: &Arc<Namespaces>) {
        self.tell_all(|| Envelope::Configure(namespaces.clone()));
    }

    /// Another certificate for connections that come from now on, on each core as soon as it takes note. A server that
    /// began without TLS goes on without. Waits while a core's queue is full.
    #[cfg(feature = "tls")]
    pub fn replace_tls(&self, tls: &crate::tls::ServerTls) {
        self.tell_all(|| Envelope::Tls(tls.clone()));
    }

    /// Each core's counters.
    pub fn metrics(&self) -> &Arc<[Arc<ShardMetrics>]> {
        &self.metrics
    }

    /// Connections on all cores, in whatever stage.
    pub fn connection_count(&self) -> usize {
        self.census.present()
    }

    fn ask_home(&self, topic: &Topic, message: ToHome) -> Result<(), Busy> {
        self.tell_home(home_of(topic, self.outside.len()), message)
    }

    fn tell_home(&self, core: usize, message: ToHome) -> Result<(), Busy> {
        let message = Box::new(AboutTopics::ToHome(message));
        self.outside[core].send(Envelope::Topics { from: Party::Outside, message }).map_err(|Full(_)| Busy)
    }

    /// A core whose mailbox is full is waited for: it empties it in its next turn.
    fn tell_all(&self, envelope: impl Fn() -> Envelope) {
        for outside in self.outside.iter() {
            let mut next = envelope();
            while let Err(Full(again)) = outside.send(next) {
                next = again;
                thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

/// The cores to run on: those asked for, or all that the affinity mask allows and the CPU quota pays for.
fn usable_cores(asked: Option<&[usize]>) -> Result<Vec<usize>, StartError> {
    let allowed: Vec<_> = core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
    let Some(asked) = asked else {
        // Respects cgroup quotas: more threads than the quota pays for would only be throttled.
        let paid_for = thread::available_parallelism().map_or(1, usize::from);
        return Ok(allowed.into_iter().take(paid_for.max(1)).collect());
    };
    match asked.iter().find(|core| !allowed.contains(core)) {
        Some(&core) => Err(StartError::Core { core, allowed }),
        None => Ok(asked.to_vec()),
    }
}
