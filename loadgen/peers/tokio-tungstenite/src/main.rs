//! An echo and broadcast server on tokio-tungstenite, as its own examples write one.

use std::future::ready;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use clap::Parser;
use futures_util::{SinkExt, StreamExt, TryStreamExt};
use peer_options::{Mode, Options};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs::Ticketer;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_async_with_config};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What this peer adds to the command line of all.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    /// Bytes that one read may take: the library zeroes that much before each. For messages of 16 KiB and more, its
    /// own default of 128 KiB is the faster one.
    #[arg(long, default_value_t = 16 << 10)]
    read_buffer: usize,
}

fn main() -> io::Result<()> {
    let Arguments { options, read_buffer } = Arguments::parse();
    let mut builder = match options.threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    builder.worker_threads(options.threads).enable_io().build()?.block_on(serve(options, read_buffer))
}

async fn serve(options: Options, read_buffer: usize) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port)).await?;
    let tls = tls_acceptor(&options)?;
    let config = WebSocketConfig::default().read_buffer_size(read_buffer);
    let (everybody, _) = broadcast::channel(BROADCASTS_WAITING_MAX);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (mode, everybody, tls) = (options.mode, everybody.clone(), tls.clone());
        tokio::spawn(async move {
            match tls {
                None => talk(stream, mode, config, everybody).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        talk(stream, mode, config, everybody).await;
                    }
                }
            }
        });
    }
}

async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    mode: Mode,
    config: WebSocketConfig,
    everybody: broadcast::Sender<Message>,
) {
    let Ok(websocket) = accept_async_with_config(stream, Some(config)).await else { return };
    // How a peer leaves is its own affair.
    let _ = match mode {
        Mode::Echo => echo(websocket).await,
        Mode::Broadcast => relay(websocket, everybody).await,
    };
}

/// As the library's own example: `forward` writes answers to messages that arrived together together.
async fn echo<S: AsyncRead + AsyncWrite + Unpin>(websocket: WebSocketStream<S>) -> Result<(), Error> {
    let (sink, stream) = websocket.split();
    stream.try_filter(|message| ready(message.is_text() || message.is_binary())).forward(sink).await
}

/// Publications that wait for this connection are written together.
async fn relay<S: AsyncRead + AsyncWrite + Unpin>(
    mut websocket: WebSocketStream<S>,
    everybody: broadcast::Sender<Message>,
) -> Result<(), Error> {
    let mut inbox = everybody.subscribe();
    loop {
        tokio::select! {
            biased;
            message = inbox.recv() => {
                match message {
                    Ok(message) => websocket.feed(message).await?,
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return Ok(()),
                }
                while let Ok(message) = inbox.try_recv() {
                    websocket.feed(message).await?;
                }
                websocket.flush().await?;
            }
            message = websocket.next() => match message {
                Some(Ok(message)) if message.is_text() || message.is_binary() => {
                    let _ = everybody.send(message);
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            },
        }
    }
}

fn tls_acceptor(options: &Options) -> io::Result<Option<TlsAcceptor>> {
    let (Some(cert), Some(key)) = (&options.tls_cert, &options.tls_key) else { return Ok(None) };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(cert).map_err(io::Error::other)?.collect();
    let key = PrivateKeyDer::from_pem_file(key).map_err(io::Error::other)?;
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain.map_err(io::Error::other)?, key)
        .map_err(io::Error::other)?;
    // Sessions resume from tickets: the default remembers 256 of them.
    config.ticketer = Ticketer::new().map_err(io::Error::other)?;
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}

/// Broadcasts that may wait for the slowest subscriber before it loses some.
const BROADCASTS_WAITING_MAX: usize = 4096;
