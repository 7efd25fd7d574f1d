//! Tells a back end over HTTP what happens, and asks it who may do what.
//!
//! Events come from the cores through one bounded queue, and go out in batches: signed, in their order, each at least
//! once as long as the process lives, one request at a time. What finds no room in the queue is counted and leaves a
//! gap in the sequence. `outgoing` decides all that, without sockets and without a clock.
//!
//! A thread of its own, with tokio, that exists only where one of the two is configured. It is not the admin thread,
//! because it works where the admin listener is off, and outlives it: the last events come when the last connection
//! has ended.

mod backoff;
mod delivery;
mod encode;
mod figures;
mod gate;
mod http;
mod outgoing;
mod proxy;
mod renewal;
mod signature;
mod verdict;

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::watch;

use crate::backend::{Decider, EventKinds, Observer};
use delivery::Delivery;
use figures::{ProxyFigures, WebhookFigures};
use gate::Gate;
use proxy::{Asker, Proxy};
use renewal::Way;

pub use figures::Figures;
pub use http::{BadEndpoint, Endpoint};
pub use renewal::{Renewal, Settings};
pub use signature::{SECRET_BYTES_MIN, Secret, SecretTooShort};

/// Where events go, and how.
#[derive(Clone, Debug)]
pub struct WebhookOptions {
    /// Where they are sent to.
    pub endpoint: Endpoint,
    /// What requests are signed with.
    pub secret: Secret,
    /// Which events.
    pub events: EventKinds,
    /// Events in a request, at most; not zero.
    pub batch_events: usize,
    /// How long an event waits for others to share its request, at most.
    pub batch_wait: Duration,
    /// Events that wait to be delivered, at most.
    pub queue_events: usize,
    /// Memory for events that wait, at most, in bytes.
    pub queue_bytes: usize,
    /// How long a request may take.
    pub timeout: Duration,
    /// How long to wait after the first failure; doubled with each further one.
    pub retry_min: Duration,
    /// How long to wait after a failure, at most.
    pub retry_max: Duration,
}

/// Who is asked, and how.
#[derive(Clone, Debug)]
pub struct ProxyOptions {
    /// Where questions are sent to.
    pub endpoint: Endpoint,
    /// What requests are signed with, if they are.
    pub secret: Option<Secret>,
    /// How long an answer may take, from the question on.
    pub timeout: Duration,
    /// Requests at a time; not zero. Other questions wait for their turn.
    pub requests: usize,
}

/// Why events or questions cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// There is no authority by which a back end's certificate could be known.
    #[error(
        "the system has no certificates of authorities, so no https:// URL can be reached; install ca-certificates, or \
         name a file of them in the variable SSL_CERT_FILE"
    )]
    NoAuthorities,
    /// The thread or its runtime could not be made.
    #[error("cannot start the thread for webhooks: {0}")]
    Thread(io::Error),
}

/// Both ends of everything that is configured, before the server runs.
pub struct Prepared {
    observer: Option<Arc<dyn Observer>>,
    decider: Option<Arc<dyn Decider>>,
    figures: Figures,
    settings: Settings,
    delivery: Option<Delivery>,
    proxy: Option<Proxy>,
}

/// The running thread.
#[derive(Debug)]
pub struct Running {
    stop: watch::Sender<Option<Duration>>,
    thread: JoinHandle<usize>,
}

impl Prepared {
    /// Nothing is sent yet. `random` is any number that another process would not have.
    ///
    /// # Errors
    ///
    /// If a URL cannot be reached from this system; see [`SetupError`].
    pub fn new(webhook: Option<WebhookOptions>, proxy: Option<ProxyOptions>, random: u64) -> Result<Self, SetupError> {
        let mut this = Self {
            observer: None,
            decider: None,
            figures: Figures::default(),
            settings: Settings::default(),
            delivery: None,
            proxy: None,
        };
        if let Some(options) = webhook {
            let figures = Arc::new(WebhookFigures::new(Gate::new(options.queue_events, options.queue_bytes)));
            let (settings, way) = watch::channel(Way::new(&options)?);
            let (intake, delivery) = Delivery::new(options.events, way, figures.clone(), random);
            this.observer = Some(Arc::new(intake));
            this.delivery = Some(delivery);
            this.figures.webhook = Some(figures);
            this.settings.webhook = Some(settings);
        }
        if let Some(options) = proxy {
            let figures = Arc::new(ProxyFigures::default());
            let (settings, asker) = watch::channel(Arc::new(Asker::new(&options, figures.clone())?));
            let (desk, proxy) = Proxy::new(asker, figures.clone());
            this.decider = Some(Arc::new(desk));
            this.proxy = Some(proxy);
            this.figures.proxy = Some(figures);
            this.settings.proxy = Some(settings);
        }
        Ok(this)
    }

    /// To be told what happens, if a webhook is configured.
    pub fn observer(&self) -> Option<Arc<dyn Observer>> {
        self.observer.clone()
    }

    /// To be asked, if a connect proxy is configured.
    pub fn decider(&self) -> Option<Arc<dyn Decider>> {
        self.decider.clone()
    }

    /// To tell and ask in another way later.
    pub fn settings(&self) -> Settings {
        self.settings.clone()
    }

    /// What is counted.
    pub fn figures(&self) -> Figures {
        self.figures.clone()
    }

    /// Starts the thread. What has come meanwhile was kept.
    ///
    /// # Errors
    ///
    /// [`SetupError::Thread`].
    pub fn start(self) -> Result<Running, SetupError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(SetupError::Thread)?;
        let (stop, stopped) = watch::channel(None);
        let Self { delivery, proxy, .. } = self;
        let work = async move {
            // It ends with the runtime; who still waits is refused then.
            if let Some(proxy) = proxy {
                tokio::spawn(proxy.run());
            }
            match delivery {
                Some(delivery) => delivery.run(stopped).await,
                None => wait_for_stop(stopped).await,
            }
        };
        let thread = thread::Builder::new()
            .name("corewire-hooks".to_owned())
            .spawn(move || runtime.block_on(work))
            .map_err(SetupError::Thread)?;
        Ok(Running { stop, thread })
    }
}

impl Running {
    /// To be called when the cores have ended: delivers what is left for at most so long, and ends. Answers how many
    /// events were not delivered.
    pub fn stop(self, within: Duration) -> usize {
        // If the thread has ended, joining tells.
        let _ = self.stop.send(Some(within));
        self.thread.join().unwrap_or_else(|_| {
            tracing::error!("the thread for webhooks has panicked; events are lost");
            0
        })
    }
}

/// Without a webhook nothing is left to be delivered.
async fn wait_for_stop(mut stopped: watch::Receiver<Option<Duration>>) -> usize {
    let _ = stopped.wait_for(Option::is_some).await;
    0
}
