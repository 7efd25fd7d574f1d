//! An echo and broadcast server on fastwebsockets, as its own examples write one.
//!
//! Broadcast uses the library's `unstable-split`: reading a frame may not be given up halfway, so that a task of its own
//! reads while another writes. A publication is encoded once, with the library's own `Frame::write`, and its bytes are
//! shared by all.

use std::future::ready;
use std::io::{self, IoSlice};
use std::net::Ipv4Addr;
use std::sync::Arc;

use bytes::Bytes;
use clap::Parser;
use fastwebsockets::{
    FragmentCollector, FragmentCollectorRead, Frame, OpCode, Role, WebSocketError, after_handshake_split, upgrade,
};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use peer_options::{Mode, Options};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs::Ticketer;

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

async fn talk<S>(stream: S, mode: Mode, everybody: broadcast::Sender<Bytes>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let accept = service_fn(|request| accept(request, mode, everybody.clone()));
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), accept);
    // How a peer leaves is its own affair.
    let _ = connection.with_upgrades().await;
}

async fn accept(
    mut request: Request<Incoming>,
    mode: Mode,
    everybody: broadcast::Sender<Bytes>,
) -> Result<Response<Empty<Bytes>>, WebSocketError> {
    let (response, websocket) = upgrade::upgrade(&mut request)?;
    // As in the library's own echo: tokio's budget per task buys nothing where a task serves one connection.
    tokio::spawn(tokio::task::unconstrained(async move {
        let _ = match mode {
            Mode::Echo => echo(websocket).await,
            Mode::Broadcast => relay(websocket, everybody).await,
        };
    }));
    Ok(response)
}

async fn echo(websocket: upgrade::UpgradeFut) -> Result<(), WebSocketError> {
    let mut websocket = FragmentCollector::new(websocket.await?);
    loop {
        let frame = websocket.read_frame().await?;
        match frame.opcode {
            OpCode::Close => return Ok(()),
            OpCode::Text | OpCode::Binary => websocket.write_frame(frame).await?,
            OpCode::Continuation | OpCode::Ping | OpCode::Pong => {}
        }
    }
}

/// Reads, and publishes what comes; a task of its own writes.
async fn relay(websocket: upgrade::UpgradeFut, everybody: broadcast::Sender<Bytes>) -> Result<(), WebSocketError> {
    let (read, write) = tokio::io::split(websocket.await?.into_inner());
    let (replies, replies_inbox) = mpsc::unbounded_channel();
    // It ends with `replies`, after the last of them.
    tokio::spawn(tokio::task::unconstrained(deliver(write, replies_inbox, everybody.subscribe())));
    let (reader, _) = after_handshake_split(read, tokio::io::sink(), Role::Server);
    let mut reader = FragmentCollectorRead::new(reader);
    loop {
        let frame = reader.read_frame(&mut |reply| ready(replies.send(encode(reply)))).await?;
        match frame.opcode {
            OpCode::Close => return Ok(()),
            OpCode::Text | OpCode::Binary => {
                let _ = everybody.send(encode(frame));
            }
            OpCode::Continuation | OpCode::Ping | OpCode::Pong => {}
        }
    }
}

/// The frame as it goes over the wire, the same for everybody.
fn encode(mut frame: Frame<'_>) -> Bytes {
    let mut wire = Vec::new();
    let len = frame.write(&mut wire).len();
    wire.truncate(len);
    wire.into()
}

/// Writes replies and publications; those that wait for this connection are written together.
async fn deliver<W: AsyncWrite + Unpin>(
    mut writer: W,
    mut replies: mpsc::UnboundedReceiver<Bytes>,
    mut inbox: broadcast::Receiver<Bytes>,
) -> io::Result<()> {
    let mut frames = Vec::new();
    loop {
        tokio::select! {
            biased;
            frame = inbox.recv() => match frame {
                Ok(frame) => frames.push(frame),
                Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => return Ok(()),
            },
            reply = replies.recv() => match reply {
                Some(reply) => frames.push(reply),
                None => return Ok(()),
            },
        }
        while frames.len() < FRAMES_PER_WRITE_MAX
            && let Ok(frame) = inbox.try_recv()
        {
            frames.push(frame);
        }
        write_together(&mut writer, &frames).await?;
        frames.clear();
    }
}

async fn write_together<W: AsyncWrite + Unpin>(writer: &mut W, frames: &[Bytes]) -> io::Result<()> {
    if let [frame] = frames {
        writer.write_all(frame).await?;
    } else {
        let mut slices: Vec<_> = frames.iter().map(|frame| IoSlice::new(frame)).collect();
        let mut rest = &mut slices[..];
        while !rest.is_empty() {
            let written = writer.write_vectored(rest).await?;
            IoSlice::advance_slices(&mut rest, written);
        }
    }
    writer.flush().await
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
/// Frames that one `writev` takes.
const FRAMES_PER_WRITE_MAX: usize = 64;
