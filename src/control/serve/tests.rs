use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

use super::*;
use crate::control::{BuildInfo, CoreMetrics};
use crate::metrics::ShardMetrics;

struct Server {
    shards: Vec<CoreMetrics>,
    draining: AtomicBool,
}

impl ControlSource for Server {
    fn shards(&self) -> &[CoreMetrics] {
        &self.shards
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    fn started_at(&self) -> SystemTime {
        SystemTime::now()
    }

    fn build_info(&self) -> BuildInfo {
        BuildInfo { version: "1.2.3" }
    }
}

fn server() -> Arc<Server> {
    let shard = |core| CoreMetrics { core, metrics: Arc::new(ShardMetrics::default()) };
    Arc::new(Server { shards: vec![shard(0), shard(1)], draining: AtomicBool::new(false) })
}

fn start_on(port: u16) -> Result<ControlHandle, ControlError> {
    let addr = SocketAddr::from(([127, 0, 0, 1], port));
    start(ControlOptions { addr, api: None }, server())
}

fn connect(handle: &ControlHandle) -> TcpStream {
    let stream = TcpStream::connect(handle.local_addr()).expect("connect");
    stream.set_read_timeout(Some(GIVE_UP_AFTER)).expect("read timeout");
    stream
}

/// The whole reply to one request on a connection of its own.
fn request(handle: &ControlHandle, method_and_path: &str) -> String {
    let mut stream = connect(handle);
    let head = format!("{method_and_path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("write");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("read");
    reply
}

/// As [`request`], with header fields of its own.
fn request_with(handle: &ControlHandle, path: &str, fields: &str) -> String {
    let mut stream = connect(handle);
    let head = format!("GET {path} HTTP/1.1\r\nConnection: close\r\n{fields}\r\n");
    stream.write_all(head.as_bytes()).expect("write");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("read");
    reply
}

/// Stops, and fails if that takes longer than the grace and a margin for a busy machine.
fn stop_in_time(handle: ControlHandle) {
    let started = Instant::now();
    handle.stop();
    let took = started.elapsed();
    assert!(took < PATIENCE.stop + Duration::from_secs(10), "{took:?}");
}

/// How long these tests wait before they fail.
const GIVE_UP_AFTER: Duration = Duration::from_secs(30);

#[test]
fn metrics_have_the_media_type_and_a_series_per_core() {
    let handle = start_on(0).expect("start");
    let reply = request(&handle, "GET /metrics");
    assert!(reply.starts_with("HTTP/1.1 200 OK\r\n"), "{reply}");
    assert!(reply.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{reply}");
    assert!(reply.contains("\ncorewire_messages_out_total{core=\"0\"} 0\n"), "{reply}");
    assert!(reply.contains("\ncorewire_messages_out_total{core=\"1\"} 0\n"), "{reply}");
    assert!(reply.contains("\ncorewire_build_info{version=\"1.2.3\"} 1\n"), "{reply}");
    stop_in_time(handle);
}

#[test]
fn draining_shows_in_readiness_and_not_in_health() {
    let source = server();
    let addr = SocketAddr::from(([127, 0, 0, 1], 0));
    let handle =
        start(ControlOptions { addr, api: None }, Arc::clone(&source) as Arc<dyn ControlSource>).expect("start");
    assert!(request(&handle, "GET /readyz").starts_with("HTTP/1.1 200 "));
    source.draining.store(true, Relaxed);
    let reply = request(&handle, "GET /readyz");
    assert!(reply.starts_with("HTTP/1.1 503 ") && reply.ends_with("draining\n"), "{reply}");
    assert!(request(&handle, "GET /healthz").starts_with("HTTP/1.1 200 "));
    stop_in_time(handle);
}

#[test]
fn other_paths_and_methods_say_what_exists() {
    let handle = start_on(0).expect("start");
    let index = request(&handle, "GET /");
    assert!(index.starts_with("HTTP/1.1 200 ") && index.contains("GET /metrics"), "{index}");
    let lost = request(&handle, "GET /metric?x=1");
    assert!(lost.starts_with("HTTP/1.1 404 ") && lost.contains("there is no /metric\n"), "{lost}");
    assert!(lost.contains("GET /readyz"), "{lost}");
    let posted = request(&handle, "POST /metrics");
    assert!(posted.starts_with("HTTP/1.1 405 ") && posted.contains("allow: GET"), "{posted}");
    let head = request(&handle, "HEAD /healthz");
    assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
    stop_in_time(handle);
}

#[test]
fn a_browser_is_sent_to_the_page_and_the_page_lets_nothing_in() {
    let handle = start_on(0).expect("start");
    let browser = "Host: admin\r\nAccept: text/html,application/xhtml+xml,*/*;q=0.8\r\n";
    let sent = request_with(&handle, "/", browser);
    assert!(sent.starts_with("HTTP/1.1 303 ") && sent.contains("\r\nlocation: dashboard\r\n"), "{sent}");
    let listed = request_with(&handle, "/", "Host: admin\r\nAccept: */*\r\n");
    assert!(listed.starts_with("HTTP/1.1 200 ") && listed.contains("GET /dashboard"), "{listed}");

    let page = request(&handle, "GET /dashboard");
    let (head, body) = page.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("content-type: text/html; charset=utf-8"), "{head}");
    assert!(head.contains("content-security-policy: default-src 'none'; style-src 'sha256-"), "{head}");
    assert!(body.starts_with("<!doctype html>"), "{body}");
    stop_in_time(handle);
}

#[test]
fn figures_are_for_this_machine_where_there_is_no_key() {
    let handle = start_on(0).expect("start");
    let figures = request_with(&handle, "/dashboard/figures", "Host: localhost\r\n");
    assert!(figures.starts_with("HTTP/1.1 200 ") && figures.contains("\"version\":\"1.2.3\""), "{figures}");
    assert!(figures.contains("[\"messages_out_total\",null,[0,0]]"), "{figures}");
    // As from a page whose name was made to lead here.
    for path in ["/dashboard/figures", "/dashboard/topics?watcher=1"] {
        let refused = request_with(&handle, path, "Host: evil.example\r\n");
        assert!(refused.starts_with("HTTP/1.1 401 ") && refused.contains("key_required"), "{refused}");
    }
    let without = request_with(&handle, "/dashboard/topics?watcher=1", "Host: localhost\r\n");
    assert!(without.starts_with("HTTP/1.1 404 ") && without.contains("only `corewire serve` has topics"), "{without}");
    stop_in_time(handle);
}

#[test]
fn a_taken_port_is_told_at_the_start() {
    let handle = start_on(0).expect("start");
    let error = start_on(handle.local_addr().port()).expect_err("the port is taken");
    assert!(matches!(error, ControlError::AddrInUse { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(&handle.local_addr().to_string()) && text.contains("--admin"), "{text}");
    stop_in_time(handle);
}

#[test]
fn an_address_of_another_machine_is_told_at_the_start() {
    // TEST-NET-1 (RFC 5737): no machine has it.
    let addr = SocketAddr::from(([192, 0, 2, 1], 0));
    let error = start(ControlOptions { addr, api: None }, server()).expect_err("it is not ours");
    assert!(matches!(error, ControlError::AddrNotAvailable { .. }), "{error:?}");
}

#[test]
fn garbage_gets_a_400_and_harms_nobody() {
    let handle = start_on(0).expect("start");
    let long_head = [b"GET / HTTP/1.1\r\nX: ".as_slice(), &[b'x'; 2 * HEAD_BYTES_MAX]].concat();
    for bytes in [b"\x16\x03\x01\x00\xff\xff\xff\r\n\r\n".as_slice(), b"hello\r\n\r\n", &long_head] {
        let mut stream = connect(&handle);
        // The server may have given up before it has read everything.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let mut reply = Vec::new();
        let _ = stream.read_to_end(&mut reply);
        assert!(reply.is_empty() || reply.starts_with(b"HTTP/1.1 4"), "{}", reply.escape_ascii());
    }
    assert!(request(&handle, "GET /healthz").starts_with("HTTP/1.1 200 "));
    stop_in_time(handle);
}

#[test]
fn silent_slow_and_idle_clients_delay_neither_others_nor_the_stop() {
    let handle = start_on(0).expect("start");
    let silent = connect(&handle);
    let mut slow = connect(&handle);
    slow.write_all(b"GET /metrics HTT").expect("write");
    let mut idle = connect(&handle);
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: admin\r\n\r\n").expect("write");
    let mut first = [0; 12];
    idle.read_exact(&mut first).expect("read");
    assert_eq!(&first, b"HTTP/1.1 200");
    // Asks for more than the socket buffers hold, and reads nothing.
    let mut deaf = connect(&handle);
    deaf.set_write_timeout(Some(Duration::from_millis(100))).expect("write timeout");
    while deaf.write_all(b"GET /metrics HTTP/1.1\r\nHost: admin\r\n\r\n").is_ok() {}

    assert!(request(&handle, "GET /healthz").starts_with("HTTP/1.1 200 "));
    stop_in_time(handle);
    drop((silent, slow, idle, deaf));
}

#[test]
fn after_a_stop_the_port_is_free() {
    let handle = start_on(0).expect("start");
    let port = handle.local_addr().port();
    request(&handle, "GET /healthz");
    stop_in_time(handle);
    stop_in_time(start_on(port).expect("the port is free again"));
}

#[test]
fn a_dropped_handle_stops_the_thread_too() {
    let handle = start_on(0).expect("start");
    let addr = handle.local_addr();
    drop(handle);
    let give_up_at = Instant::now() + GIVE_UP_AFTER;
    while TcpStream::connect(addr).is_ok() {
        assert!(Instant::now() < give_up_at, "it still listens");
        thread::sleep(Duration::from_millis(10));
    }
}

fn start_impatient() -> ControlHandle {
    let addr = SocketAddr::from(([127, 0, 0, 1], 0));
    let patience = Patience { head: Duration::from_millis(300), write: Duration::from_millis(500), ..PATIENCE };
    start_with(ControlOptions { addr, api: None }, server(), patience).expect("start")
}

#[test]
fn clients_that_send_no_whole_request_give_their_seats_up_in_time() {
    let handle = start_impatient();
    let silent: Vec<TcpStream> = (0..CONNECTIONS_MAX).map(|_| connect(&handle)).collect();
    let slow: Vec<TcpStream> = (0..CONNECTIONS_MAX)
        .map(|_| {
            let mut stream = connect(&handle);
            stream.write_all(b"GET / HTTP/1.1\r\nHos").expect("write");
            stream
        })
        .collect();
    assert!(request(&handle, "GET /healthz").starts_with("HTTP/1.1 200 "));
    stop_in_time(handle);
    drop((silent, slow));
}

#[test]
fn a_client_that_reads_nothing_is_cut() {
    let handle = start_impatient();
    let mut deaf = connect(&handle);
    deaf.set_nonblocking(true).expect("nonblocking");
    let give_up_at = Instant::now() + 3 * GIVE_UP_AFTER;
    loop {
        match deaf.write(b"GET /metrics HTTP/1.1\r\nHost: admin\r\n\r\n") {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(20)),
            Err(_) => break,
        }
        assert!(Instant::now() < give_up_at, "it is still connected");
    }
    stop_in_time(handle);
}
