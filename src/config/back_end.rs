//! The back end that is told and asked, as options describe it.

use std::path::PathBuf;
use std::time::Duration;

use crate::backend::EventKinds;
use crate::webhooks::{Endpoint, ProxyOptions, Secret, WebhookOptions};

/// Webhooks and the connect proxy.
#[derive(Clone, Debug, Default)]
pub struct BackEnd {
    /// Where events go. Default `None`: nowhere.
    pub webhook_url: Option<Endpoint>,
    /// Where the secret lies; [`BackEnd::secret`] is what was in it.
    pub secret_file: Option<PathBuf>,
    /// What requests are signed with. There is one if there is a webhook.
    pub secret: Option<Secret>,
    /// Which events are told. Default all.
    pub events: EventKinds,
    /// Events in a request, at most. Default 100.
    pub batch_events: usize,
    /// How long an event waits for others to share its request. Default 100 ms.
    pub batch_wait: Duration,
    /// Events that wait to be delivered, at most. Default 100,000.
    pub queue_events: usize,
    /// Memory for events that wait, at most. Default 64 MiB.
    pub queue_bytes: usize,
    /// How long a request with events may take. Default 10 s.
    pub webhook_timeout: Duration,
    /// Wait after the first failure. Default 500 ms.
    pub retry_min: Duration,
    /// Longest wait after a failure. Default 30 s.
    pub retry_max: Duration,
    /// How long what is left may take to be delivered when the server ends. Default 5 s.
    pub drain_time: Duration,
    /// Who decides about connections and subscriptions. Default `None`: the configuration alone.
    pub proxy_url: Option<Endpoint>,
    /// How long a verdict may take. Default 3 s.
    pub proxy_timeout: Duration,
    /// Questions that are asked at a time. Default 64.
    pub proxy_requests: usize,
}

impl BackEnd {
    /// Where events go and how, if they go anywhere.
    pub fn webhook(&self) -> Option<WebhookOptions> {
        Some(WebhookOptions {
            endpoint: self.webhook_url.clone()?,
            secret: self.secret.clone()?,
            events: self.events,
            batch_events: self.batch_events,
            batch_wait: self.batch_wait,
            queue_events: self.queue_events,
            queue_bytes: self.queue_bytes,
            timeout: self.webhook_timeout,
            retry_min: self.retry_min,
            retry_max: self.retry_max,
        })
    }

    /// Who is asked and how, if anybody is.
    pub fn proxy(&self) -> Option<ProxyOptions> {
        Some(ProxyOptions {
            endpoint: self.proxy_url.clone()?,
            secret: self.secret.clone(),
            timeout: self.proxy_timeout,
            requests: self.proxy_requests,
        })
    }
}
