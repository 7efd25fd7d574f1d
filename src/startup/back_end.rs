//! The back end of `serve`, who is told and asked: from its options to its thread, and to its end.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use corewire::backend::{Decider, Event, Observer};
use corewire::builtin::Serve;
use corewire::config::{self, Command, Config};
use corewire::metrics::Sample;
use corewire::topics::HomeEvent;
use corewire::webhooks::{Figures, Prepared, Running, Settings, SetupError};

/// Before the cores run.
pub(super) struct BackEnd {
    prepared: Prepared,
    is_used: bool,
}

/// What a handler, the topics' homes and the admin listener are given of it. Nothing, where no back end is configured.
#[derive(Clone)]
pub(super) struct Reach {
    observer: Option<Arc<dyn Observer>>,
    decider: Option<Arc<dyn Decider>>,
    figures: Figures,
}

impl BackEnd {
    pub(super) fn prepare(config: &Config) -> Result<Self, SetupError> {
        let (webhook, proxy) = match config.command {
            Command::Serve => (config.back_end.webhook(), config.back_end.proxy()),
            Command::Echo | Command::Broadcast => (None, None),
        };
        let is_used = webhook.is_some() || proxy.is_some();
        // No two lives of a server have the same sequence of events.
        let random = RandomState::new().build_hasher().finish();
        Ok(Self { prepared: Prepared::new(webhook, proxy, random)?, is_used })
    }

    pub(super) fn reach(&self) -> Reach {
        Reach { observer: self.prepared.observer(), decider: self.prepared.decider(), figures: self.prepared.figures() }
    }

    /// To tell and ask in another way later.
    pub(super) fn settings(&self) -> Settings {
        self.prepared.settings()
    }

    /// Starts the thread, if there is something to do.
    pub(super) fn start(self, config: &config::BackEnd) -> Result<Option<Running>, SetupError> {
        if !self.is_used {
            return Ok(None);
        }
        let running = self.prepared.start()?;
        tracing::info!(webhook = ?config.webhook_url, connect_proxy = ?config.proxy_url, "tells and asks a back end");
        Ok(Some(running))
    }
}

impl Reach {
    pub(super) fn equip(&self, mut serve: Serve) -> Serve {
        if let Some(observer) = &self.observer {
            serve = serve.observer(observer.clone());
        }
        if let Some(decider) = &self.decider {
            serve = serve.decider(decider.clone());
        }
        serve
    }

    /// As [`Outside::topic_event`](corewire::handler::Outside::topic_event).
    pub(super) fn topic_event(&self, event: HomeEvent) {
        let Some(observer) = &self.observer else { return };
        if let Some(event) = Event::of_topic(event) {
            observer.observe(event);
        }
    }

    pub(super) fn samples(&self) -> Vec<Sample> {
        self.figures.samples()
    }
}

/// When the cores have ended: what is left is delivered, for a while.
pub(super) fn stop(running: Running, config: &config::BackEnd) {
    let lost = running.stop(config.drain_time);
    if lost > 0 {
        tracing::warn!(lost, "events were not delivered to the webhook before the end");
    }
}
