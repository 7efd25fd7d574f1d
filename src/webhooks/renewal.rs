//! Another way to the back end, for a thread that tells and asks already.
//!
//! Where requests go, how they are signed and how long they may take is checked first and changed then. What waits is
//! kept, and goes the new way; what is under way ends in the old one.

use std::sync::Arc;

use tokio::sync::watch;

use super::backoff::Backoff;
use super::http::Poster;
use super::outgoing::BatchOptions;
use super::proxy::Asker;
use super::{ProxyOptions, SetupError, WebhookOptions};

/// How events go out.
#[derive(Clone)]
pub(super) struct Way {
    pub(super) poster: Poster,
    pub(super) batches: BatchOptions,
}

/// Reaches the thread of [`Running`](super::Running) with other options.
#[derive(Clone, Default)]
pub struct Settings {
    pub(super) webhook: Option<watch::Sender<Way>>,
    pub(super) proxy: Option<watch::Sender<Arc<Asker>>>,
}

/// Options that were checked, and hold as soon as they are [applied](Renewal::apply).
#[must_use = "nothing changes before it is applied"]
pub struct Renewal {
    webhook: Option<(watch::Sender<Way>, Way)>,
    proxy: Option<(watch::Sender<Arc<Asker>>, Arc<Asker>)>,
}

impl Way {
    pub(super) fn new(options: &WebhookOptions) -> Result<Self, SetupError> {
        let poster = Poster::new(options.endpoint.clone(), Some(options.secret.clone()), options.timeout)?;
        let batches = BatchOptions {
            events_max: options.batch_events,
            wait: options.batch_wait,
            backoff: Backoff { min: options.retry_min, max: options.retry_max },
        };
        Ok(Self { poster, batches })
    }
}

impl Settings {
    /// Checks other options for what runs. Which events are told and how many may wait stays as it was; what is not
    /// configured now or was not at the start stays as it is.
    ///
    /// # Errors
    ///
    /// If a URL cannot be reached from this system; see [`SetupError`].
    pub fn renewal(
        &self,
        webhook: Option<&WebhookOptions>,
        proxy: Option<&ProxyOptions>,
    ) -> Result<Renewal, SetupError> {
        let webhook = self.webhook.clone().zip(webhook);
        let webhook = webhook.map(|(sender, options)| Ok((sender, Way::new(options)?))).transpose()?;
        let proxy = self.proxy.clone().zip(proxy);
        let proxy = proxy.map(|(sender, options)| {
            let asker = sender.borrow().renewed(options)?;
            Ok((sender, Arc::new(asker)))
        });
        Ok(Renewal { webhook, proxy: proxy.transpose()? })
    }
}

impl Renewal {
    /// From now on these options hold.
    pub fn apply(self) {
        if let Some((sender, way)) = self.webhook {
            sender.send_replace(way);
        }
        if let Some((sender, asker)) = self.proxy {
            sender.send_replace(asker);
        }
    }
}
