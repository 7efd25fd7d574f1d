//! Echo and broadcast on sockudo-ws, as its own examples write them, over any stream.

use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use futures_util::{SinkExt, StreamExt};
use peer_options::{Mode, Options};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sockudo_ws::error::Result;
use sockudo_ws::handshake::{build_response, generate_accept_key, parse_request};
use sockudo_ws::{Config, Message, WebSocketStream};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs::Ticketer;

/// What all connections share.
#[derive(Clone)]
pub struct Shared {
    mode: Mode,
    tls: Option<TlsAcceptor>,
    everybody: broadcast::Sender<Message>,
}

impl Shared {
    /// As the command line says.
    pub fn new(options: &Options) -> io::Result<Self> {
        let (everybody, _) = broadcast::channel(BROADCASTS_WAITING_MAX);
        Ok(Self { mode: options.mode, tls: tls_acceptor(options)?, everybody })
    }

    /// Serves one connection to its end. How a peer leaves is its own affair.
    pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(self, stream: S) {
        let _ = match self.tls.clone() {
            None => self.talk(stream).await,
            Some(tls) => match tls.accept(stream).await {
                Ok(stream) => self.talk(stream).await,
                Err(_) => return,
            },
        };
    }

    async fn talk<S: AsyncRead + AsyncWrite + Unpin>(self, mut stream: S) -> Result<()> {
        shake_hands(&mut stream).await?;
        // No keepalive: timers that most other peers do not have.
        let config = Config::builder().auto_ping(false).ping_interval(0).idle_timeout(0).build();
        let websocket = WebSocketStream::server(stream, config);
        match self.mode {
            Mode::Echo => echo(websocket).await,
            Mode::Broadcast => relay(websocket, self.everybody).await,
        }
    }
}

async fn shake_hands<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> Result<()> {
    let mut head = BytesMut::with_capacity(4096);
    loop {
        if stream.read_buf(&mut head).await? == 0 {
            return Err(sockudo_ws::Error::ConnectionClosed);
        }
        if let Some((request, _)) = parse_request(&head)? {
            let response = build_response(&generate_accept_key(request.key), None, None);
            stream.write_all(&response).await?;
            stream.flush().await?;
            return Ok(());
        }
    }
}

/// Answers to messages that arrived together are written together: `next` writes what `feed` queued before it reads
/// again, as the library's README has it.
async fn echo<S: AsyncRead + AsyncWrite + Unpin>(mut websocket: WebSocketStream<S>) -> Result<()> {
    while let Some(message) = websocket.next().await {
        match message? {
            message @ (Message::Text(_) | Message::Binary(_)) => websocket.feed(message).await?,
            Message::Close(_) => break,
            Message::Ping(_) | Message::Pong(_) => {}
        }
    }
    Ok(())
}

/// Publications that wait for this connection are written together.
async fn relay<S: AsyncRead + AsyncWrite + Unpin>(
    mut websocket: WebSocketStream<S>,
    everybody: broadcast::Sender<Message>,
) -> Result<()> {
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
                Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
                    let _ = everybody.send(message);
                }
                Some(Ok(Message::Close(_))) | None => return Ok(()),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
            },
        }
    }
}

fn tls_acceptor(options: &Options) -> io::Result<Option<TlsAcceptor>> {
    let (Some(cert), Some(key)) = (&options.tls_cert, &options.tls_key) else { return Ok(None) };
    let chain: std::result::Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(cert).map_err(io::Error::other)?.collect();
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
