//! A floor: a TCP echo over monoio that does no WebSocket at all. A task per connection, a read and a write posted
//! in turn. One thread, and neither broadcast nor TLS.

use std::io;
use std::net::Ipv4Addr;

use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::{TcpListener, TcpStream};
use peer_options::Options;

fn main() -> io::Result<()> {
    let port = Options::parse_for_floor().port;
    let mut flags = io_uring::IoUring::builder();
    flags.setup_cqsize(16 << 10).setup_coop_taskrun().setup_single_issuer();
    let mut runtime =
        monoio::RuntimeBuilder::<monoio::IoUringDriver>::new().with_entries(1024).uring_builder(flags).build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            monoio::spawn(echo(stream));
        }
    })
}

async fn echo(mut stream: TcpStream) {
    let mut buffer = vec![0; FIRST_READ_BYTES];
    loop {
        let (result, read) = stream.read(buffer).await;
        let Ok(1..) = result else { return };
        // A read that filled the buffer was too small for the traffic.
        let full = read.len() == read.capacity() && read.len() < READ_BYTES_MAX;
        let (result, written) = stream.write_all(read).await;
        if result.is_err() {
            return;
        }
        buffer = if full { vec![0; READ_BYTES_MAX] } else { written };
    }
}

const FIRST_READ_BYTES: usize = 16 << 10;
const READ_BYTES_MAX: usize = 256 << 10;
