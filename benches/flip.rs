//! What does it cost a core to make a connection hot and cold again?
//!
//! Real servers on loopback, 32 connections, two echoes each per round. One server keeps them cold (epoll), one chooses
//! as it does by default (io_uring), and one is restless: there the first message of a pair makes its connection hot and
//! the second, received through the ring, makes it cold again. Time is the CPU time of the core's thread per pair of
//! echoes, so the flip is `restless` less the others, which are close. Where io_uring is refused only `cold` is measured.
//! `cargo bench -p corewire --bench flip`
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use corewire::builtin::Echo;
use corewire::server::{DriverChoice, Running, Server};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const CONNECTIONS: u64 = 32;
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
/// A binary message of 8 bytes, masked with zeros.
const FRAME: [u8; 14] = [0x82, 0x88, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("flip");
    group.throughput(Throughput::Elements(1));
    let cases = [
        ("cold", DriverChoice::Epoll, false),
        ("chosen", DriverChoice::IoUring, false),
        ("restless", DriverChoice::IoUring, true),
    ];
    for (name, driver, restless) in cases {
        let Ok(running) = start(driver, restless) else { continue };
        let addr = running.local_addr().expect("it listens");
        let mut clients: Vec<_> = (0..CONNECTIONS).map(|_| connect(addr)).collect();
        // Enough messages in a row to become hot, where that pays.
        (0..20).for_each(|_| echo(&mut clients));
        let task = core_task();
        let promotions = || running.handle().metrics()[0].promotions.get();
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|pairs| {
                let rounds = pairs.div_ceil(CONNECTIONS);
                let (cpu_before, promotions_before) = (cpu_time(&task), promotions());
                for _ in 0..rounds {
                    echo(&mut clients);
                    echo(&mut clients);
                }
                let took = cpu_time(&task) - cpu_before;
                let flips = promotions() - promotions_before;
                // A server that chooses flips now and then.
                let is_flipping = flips >= rounds * CONNECTIONS / 2;
                assert!(is_flipping == restless || rounds < 100, "{name}: {flips} flips in {rounds} rounds");
                took.mul_f64(pairs as f64 / (rounds * CONNECTIONS) as f64)
            });
        });
        drop(clients);
        running.stop().expect("no core broke");
    }
    group.finish();
}

fn start(driver: DriverChoice, restless: bool) -> Result<Running, corewire::server::StartError> {
    let any_port = "127.0.0.1:0".parse().expect("an address");
    Server::builder().driver(driver).restless(restless).cores(vec![0]).listen(any_port).start(|_| Echo)
}

fn connect(addr: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(addr).expect("the server accepts");
    stream.set_nodelay(true).expect("an option");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("an option");
    stream.write_all(REQUEST).expect("the server reads");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("an answer");
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "));
    stream
}

/// One message of each, and its echo.
fn echo(clients: &mut [TcpStream]) {
    clients.iter_mut().for_each(|client| client.write_all(&FRAME).expect("the server reads"));
    for client in clients {
        let mut answer = [0; 10];
        client.read_exact(&mut answer).expect("an echo");
        assert_eq!(answer[2..], FRAME[6..]);
    }
}

/// Where the kernel tells of the core's thread.
fn core_task() -> String {
    let tasks = std::fs::read_dir("/proc/self/task").expect("the tasks of this process").flatten();
    let mut paths = tasks.map(|task| task.path().display().to_string());
    let is_core =
        |path: &String| std::fs::read_to_string(format!("{path}/comm")).is_ok_and(|name| name.starts_with("corewire-"));
    paths.find(is_core).expect("the thread of the only core")
}

/// What it has run so far: first field of schedstat, in nanoseconds.
fn cpu_time(task: &str) -> Duration {
    let stat = std::fs::read_to_string(format!("{task}/schedstat")).expect("it lives");
    Duration::from_nanos(stat.split(' ').next().and_then(|ns| ns.parse().ok()).expect("a number"))
}

criterion_group!(benches, bench);
criterion_main!(benches);
