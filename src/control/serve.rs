//! The admin thread: accepts, answers a few requests, and stops within a bounded time whatever its clients do.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::api::{self, Api, ApiOptions, PeerAddr};
use super::dashboard;
use super::exposition::{self, Exposed};
use super::process::ProcessFigures;
use super::{ControlError, ControlOptions, ControlSource};

/// The running admin thread. Dropping it without [`ControlHandle::stop`] stops the thread too, without waiting for it.
#[derive(Debug)]
pub struct ControlHandle {
    local_addr: SocketAddr,
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl ControlHandle {
    /// Where the listener stands, with the port that the kernel chose.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Stops listening, lets requests that are being answered finish for up to a second, and waits for the thread.
    pub fn stop(self) {
        let _ = self.stop.send(true);
        if self.thread.join().is_err() {
            tracing::error!("the admin thread has panicked");
        }
    }
}

/// Binds the listener, so that an address that cannot be had is told here, and starts the thread.
pub fn start(options: ControlOptions, source: Arc<dyn ControlSource>) -> Result<ControlHandle, ControlError> {
    start_with(options, source, PATIENCE)
}

/// How long clients may take.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// From accept, or from the previous reply, to the end of the request's head.
    head: Duration,
    /// How long a client may leave what was sent to it unread.
    write: Duration,
    /// How long requests may go on after a stop.
    stop: Duration,
}

fn start_with(
    options: ControlOptions,
    source: Arc<dyn ControlSource>,
    patience: Patience,
) -> Result<ControlHandle, ControlError> {
    let addr = options.addr;
    let (listener, local_addr) = bind(addr).map_err(|error| ControlError::bind(addr, error))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ControlError::Thread)?;
    let (stop, stopped) = watch::channel(false);
    // The API begins to wait for answers as soon as it is made.
    let router = {
        let _inside = runtime.enter();
        routes(source, options.api)
    };
    let service = Service { router, stopped, patience };
    let thread = thread::Builder::new()
        .name("corewire-control".to_owned())
        .spawn(move || runtime.block_on(run(listener, service)))
        .map_err(ControlError::Thread)?;
    tracing::info!(addr = %local_addr, "admin listener is up");
    Ok(ControlHandle { local_addr, stop, thread })
}

fn bind(addr: SocketAddr) -> io::Result<(std::net::TcpListener, SocketAddr)> {
    let listener = std::net::TcpListener::bind(addr)?;
    listener.set_nonblocking(true)?;
    let local_addr = listener.local_addr()?;
    Ok((listener, local_addr))
}

async fn run(listener: std::net::TcpListener, service: Service) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "the admin listener cannot be used");
            return;
        }
    };
    let mut connections = JoinSet::new();
    let mut stopped = service.stopped.clone();
    tokio::select! {
        () = accept(&listener, &service, &mut connections) => {}
        () = told_to_stop(&mut stopped) => {}
    }
    drop(listener);
    let all_done = async { while connections.join_next().await.is_some() {} };
    // Whoever is not done by then is cut when the set is dropped.
    let _ = tokio::time::timeout(service.patience.stop, all_done).await;
}

async fn accept(listener: &TcpListener, service: &Service, connections: &mut JoinSet<()>) {
    let seats = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Ok(seat) = Arc::clone(&seats).acquire_owned().await {
        let stream = accept_one(listener).await;
        while connections.try_join_next().is_some() {}
        let connection = service.clone().serve(stream);
        connections.spawn(async move {
            connection.await;
            drop(seat);
        });
    }
}

/// The next socket. Descriptors that ran out are waited for: the data path of the same process may free some.
async fn accept_one(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                tracing::warn!(%error, "the admin listener cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// What every connection needs.
#[derive(Clone)]
struct Service {
    router: Router,
    stopped: watch::Receiver<bool>,
    patience: Patience,
}

impl Service {
    async fn serve(mut self, stream: TcpStream) {
        // For a client that sends a request and then does not read the reply. Without it the connection still works.
        let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, self.patience.write.as_millis() as u32);
        let Ok(peer) = stream.peer_addr() else { return };
        let router = TowerToHyperService::new(self.router);
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(PeerAddr(peer));
            router.call(request)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.patience.head)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let outcome = tokio::select! {
            outcome = connection.as_mut() => outcome,
            () = told_to_stop(&mut self.stopped) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = outcome {
            tracing::debug!(%error, "an admin connection failed");
        }
    }
}

/// A handle that was dropped counts as one that was stopped.
async fn told_to_stop(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stop| *stop).await;
}

fn routes(source: Arc<dyn ControlSource>, api: Option<ApiOptions>) -> Router {
    let api = api.map(Api::start);
    let dashboard = dashboard::routes(source.clone(), api.clone());
    let api = api.map(|api| Router::new().nest("/api/v1", api::routes(api)));
    Router::new()
        .route("/", get(index))
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readiness))
        .fallback(not_found)
        .with_state(source)
        .merge(dashboard)
        .merge(api.unwrap_or_default())
}

async fn metrics(State(source): State<Arc<dyn ControlSource>>) -> impl IntoResponse {
    let text = exposition::render(&Exposed {
        shards: source.shards(),
        figures: &source.figures(),
        build: source.build_info(),
        started_at: source.started_at(),
        now: SystemTime::now(),
        is_draining: source.is_draining(),
        process: ProcessFigures::read(),
    });
    ([(header::CONTENT_TYPE, exposition::CONTENT_TYPE)], text)
}

/// Browsers are shown the page, everybody else a list of what there is.
async fn index(headers: HeaderMap) -> Response {
    let accepts = headers.get_all(header::ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
    let wants_page = accepts.flat_map(|accept| accept.split([',', ';'])).any(|media| media.trim() == "text/html");
    // A relative reference (RFC 9110 §10.2.2): a proxy may have this under another path.
    let to_page = (StatusCode::SEE_OTHER, [(header::LOCATION, "dashboard")]);
    let response = if wants_page { to_page.into_response() } else { INDEX.into_response() };
    ([(header::VARY, "Accept")], response).into_response()
}

async fn readiness(State(source): State<Arc<dyn ControlSource>>) -> (StatusCode, &'static str) {
    if source.is_draining() { (StatusCode::SERVICE_UNAVAILABLE, "draining\n") } else { (StatusCode::OK, "ready\n") }
}

async fn not_found(uri: Uri) -> Result<Response, Infallible> {
    let text = format!("there is no {}\n\n{INDEX}", uri.path());
    Ok((StatusCode::NOT_FOUND, text).into_response())
}

const INDEX: &str = "\
Corewire, admin listener

GET /dashboard  a page for browsers: live figures, and a console for topics
GET /metrics    figures of every core, in Prometheus text format
GET /healthz    200 while the process runs
GET /readyz     200 while new clients are welcome, 503 while the server drains

Where `corewire serve` runs, the HTTP API for back ends is below /api/v1; GET /api/v1/openapi.json describes it.
";

/// The time for a head is above Prometheus's default interval of a minute, so that a scraper keeps its connection.
const PATIENCE: Patience =
    Patience { head: Duration::from_secs(75), write: Duration::from_secs(30), stop: Duration::from_secs(1) };
/// Largest request head; hyper takes no less than 8 KiB.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Most admin connections at a time; the next ones wait in the backlog. A back end keeps one per worker.
const CONNECTIONS_MAX: usize = 256;
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
