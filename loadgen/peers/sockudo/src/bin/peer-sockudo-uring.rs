//! sockudo-ws over io_uring: its `UringStream` on tokio-uring. One thread, whatever `--threads` says.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use clap::Parser;
use peer_options::Options;
use peer_sockudo::Shared;
use sockudo_ws::io_uring::UringStream;
use tokio_uring::net::TcpListener;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> io::Result<()> {
    let options = Options::parse();
    // The flags of the floor over monoio: faster than tokio-uring's own, by the figures in the peers' README.
    let mut flags = tokio_uring::uring_builder();
    flags.setup_cqsize(16 << 10).setup_coop_taskrun().setup_single_issuer();
    tokio_uring::builder().entries(1024).uring_builder(&flags).start(async {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, options.port)))?;
        let shared = Shared::new(&options)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio_uring::spawn(shared.clone().serve(UringStream::new(stream)));
        }
    })
}
