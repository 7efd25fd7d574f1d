//! An echo and broadcast server on tokio-tungstenite, as its own examples write one.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use clap::Parser;
use futures_util::{SinkExt, StreamExt};
use peer_options::{Mode, Options};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_async};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> io::Result<()> {
    let options = Options::parse();
    let mut builder = match options.threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    builder.worker_threads(options.threads).enable_io().build()?.block_on(serve(options))
}

async fn serve(options: Options) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port)).await?;
    let tls = tls_acceptor(&options)?;
    let (everybody, _) = broadcast::channel(BROADCASTS_WAITING_MAX);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (mode, everybody, tls) = (options.mode, everybody.clone(), tls.clone());
        tokio::spawn(async move {
            match tls {
                None => talk(stream, mode, everybody).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        talk(stream, mode, everybody).await;
                    }
                }
            }
        });
    }
}

async fn talk<S: AsyncRead + AsyncWrite + Unpin>(stream: S, mode: Mode, everybody: broadcast::Sender<Message>) {
    let Ok(websocket) = accept_async(stream).await else { return };
    // How a peer leaves is its own affair.
    let _ = match mode {
        Mode::Echo => echo(websocket).await,
        Mode::Broadcast => relay(websocket, everybody).await,
    };
}

async fn echo<S: AsyncRead + AsyncWrite + Unpin>(mut websocket: WebSocketStream<S>) -> Result<(), Error> {
    while let Some(message) = websocket.next().await {
        let message = message?;
        if message.is_text() || message.is_binary() {
            websocket.send(message).await?;
        }
    }
    Ok(())
}

async fn relay<S: AsyncRead + AsyncWrite + Unpin>(
    websocket: WebSocketStream<S>,
    everybody: broadcast::Sender<Message>,
) -> Result<(), Error> {
    let mut inbox = everybody.subscribe();
    let (mut sink, mut stream) = websocket.split();
    loop {
        tokio::select! {
            message = stream.next() => match message {
                Some(Ok(message)) if message.is_text() || message.is_binary() => {
                    let _ = everybody.send(message);
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            },
            message = inbox.recv() => match message {
                Ok(message) => sink.send(message).await?,
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return Ok(()),
            },
        }
    }
}

fn tls_acceptor(options: &Options) -> io::Result<Option<TlsAcceptor>> {
    let (Some(cert), Some(key)) = (&options.tls_cert, &options.tls_key) else { return Ok(None) };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(cert).map_err(io::Error::other)?.collect();
    let key = PrivateKeyDer::from_pem_file(key).map_err(io::Error::other)?;
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain.map_err(io::Error::other)?, key)
        .map_err(io::Error::other)?;
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}

/// Broadcasts that may wait for the slowest subscriber before it loses some.
const BROADCASTS_WAITING_MAX: usize = 4096;
