//! Another configuration for a server that runs.
//!
//! Everything is read and checked before anything changes: what is wrong is refused, and the old stays whole.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use corewire::auth::{KeyError, Verifier};
use corewire::builtin::{Admission, Seats};
use corewire::config::{Config, ConfigError, Loaded, TlsFiles};
use corewire::control::{ApiSettings, Reload};
use corewire::server::Handle;
use corewire::tls::{ServerTls, TlsOptions, TlsSetupError};
use corewire::webhooks;

/// Reads all sources of the configuration again.
pub(crate) type Load = fn() -> Result<Loaded, ConfigError>;

/// Why a server cannot be set up, or a reload is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetupError {
    /// The certificate, the key or the clients' authorities are no good.
    #[error("TLS: {0}")]
    Tls(#[from] TlsSetupError),
    /// The keys for tokens are no good.
    #[error("tokens: {0}")]
    Tokens(#[from] KeyError),
    /// The back end that is told and asked cannot be reached from here.
    #[error("back end: {0}")]
    BackEnd(#[from] webhooks::SetupError),
}

/// Everything of a running server that a reload must reach.
pub(crate) struct Reached {
    pub(crate) handle: Handle,
    pub(crate) api: ApiSettings,
    pub(crate) back_end: webhooks::Settings,
}

/// What was made of files.
pub(crate) struct Setup {
    pub(crate) admission: Arc<Admission>,
    pub(crate) tls: Option<ServerTls>,
}

impl Setup {
    /// Reads the files that the configuration names.
    pub(crate) fn new(config: &Config) -> Result<Self, SetupError> {
        let tls = config.tls.as_ref().map(|files| ServerTls::from_pem_files(&tls_options(files)));
        Ok(Self { admission: Arc::new(admission(config, Seats::default())?), tls: tls.transpose()? })
    }

    /// The same from another configuration. TLS stays on, or off.
    fn renewed(&self, config: &Config) -> Result<Self, SetupError> {
        let tls = self.tls.as_ref().zip(config.tls.as_ref());
        Ok(Self {
            admission: Arc::new(admission(config, self.admission.seats.clone())?),
            tls: tls.map(|(tls, files)| tls.reloaded(&tls_options(files))).transpose()?.or_else(|| self.tls.clone()),
        })
    }
}

/// A way to reload a server that was started with `config` and `setup`.
pub(crate) fn reload(config: Config, setup: Setup, running: Reached, load: Load) -> Reload {
    // Locked, so that one reload comes after the other.
    let current = Mutex::new(setup);
    Arc::new(move || {
        let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
        let loaded = load().map_err(|error| error.to_string())?;
        let renewed = current.renewed(&loaded.config).map_err(|error| error.to_string())?;
        let back_end = &loaded.config.back_end;
        let renewal = running.back_end.renewal(back_end.webhook().as_ref(), back_end.proxy().as_ref());
        let renewal = renewal.map_err(|error| SetupError::from(error).to_string())?;
        hand_out(&running.handle, &running.api, &loaded.config, &renewed);
        renewal.apply();
        *current = renewed;
        let changed = config.unchangeable(&loaded.config);
        let stays = changed.iter().map(|option| format!("--{option} has changed: it takes effect at the next start"));
        Ok(loaded.warnings.into_iter().chain(stays).collect())
    })
}

/// Tells every core. Cores take note one after the other, each between two of its turns.
fn hand_out(handle: &Handle, api: &ApiSettings, config: &Config, setup: &Setup) {
    let namespaces = Arc::new(config.namespaces());
    handle.configure(&namespaces);
    api.set_namespaces(namespaces);
    api.set_keys(config.api_keys.clone());
    for core in 0..handle.core_count() {
        while handle.cast(core, setup.admission.clone()).is_err() {
            // It empties its queue in its next turn.
            thread::sleep(Duration::from_millis(1));
        }
    }
    if let Some(tls) = &setup.tls {
        handle.replace_tls(tls);
    }
}

/// What `serve` demands of its clients.
fn admission(config: &Config, seats: Seats) -> Result<Admission, KeyError> {
    let verifier = match config.token_keys.as_slice() {
        [] => None,
        files => Some(Verifier::from_files(files.to_vec(), config.token_policy.clone())?),
    };
    for (key_id, algorithm) in verifier.iter().flat_map(|verifier| verifier.keys().describe()) {
        tracing::info!(key_id, %algorithm, "tokens are checked with");
    }
    Ok(Admission {
        verifier,
        anonymous: config.anonymous,
        message_rate: config.message_rate,
        connections_per_user_max: config.max_connections_per_user,
        connections_per_address_max: config.max_connections_per_address,
        seats,
    })
}

fn tls_options(files: &TlsFiles) -> TlsOptions {
    TlsOptions { cert_chain: files.cert.clone(), key: files.key.clone(), client_ca: files.client_ca.clone() }
}
