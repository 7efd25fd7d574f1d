//! From the start to the end of a server: addresses, files, draining, signals.

#![cfg(feature = "cli")]

mod common;

use std::any::Any;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::binary::Binary;
use common::{
    BINARY, CLOSE, Client, Folder, PATIENCE, TEXT, TestServer, VARIANTS, at_once, bounded, builder, frame, random,
    serve, until,
};
use corewire::builtin::Echo;
use corewire::connection::Limits;
use corewire::handler::{Accept, Conn, Core, Deferred, Handler, Request, Upgrade};
use corewire::protocol::{Message, MessageKind};
use corewire::server::{Handle, ListenAddr, ListenError, Server, StartError};
use rustix::process::Signal;

// ---- addresses -----------------------------------------------------------------------------------------------

#[test]
fn port_zero_is_one_port_for_all_cores() {
    for variant in VARIANTS {
        let server = serve(variant, |builder| builder.cores(vec![0, 1]), |_| Echo);
        assert_ne!(server.addr.port(), 0);
        let clients: Vec<_> = (0..64).map(|_| Client::open(server.addr)).collect();
        let by_core: Vec<_> = server.handle.metrics().iter().map(|metrics| metrics.accepts.get()).collect();
        assert_eq!((by_core.len(), by_core.iter().sum::<u64>()), (2, 64));
        assert!(by_core.iter().all(|&count| count > 5), "{by_core:?}");
        drop(clients);
    }
}

#[test]
fn several_addresses_are_served_at_once() {
    for variant in VARIANTS {
        let folder = Folder::new();
        let path = folder.path("also.sock");
        let server = serve(
            variant,
            |builder| {
                builder
                    .listen("[::1]:0".parse().unwrap())
                    .listen_on(ListenAddr::Unix { path: path.clone(), mode: 0o600 })
            },
            |_| Echo,
        );
        let running = server.running.as_ref().expect("it runs");
        assert_eq!(running.addrs().len(), 3);
        for addr in running.addrs() {
            let mut client = match addr {
                ListenAddr::Tcp(addr) => Client::open(*addr),
                ListenAddr::Unix { path, .. } => Client::unix(path).upgraded(""),
            };
            client.send_text(&addr.to_string());
            assert_eq!(client.text(), addr.to_string());
            client.close();
        }
    }
}

#[test]
fn a_port_that_is_taken_is_refused_with_a_clear_sentence() {
    for variant in VARIANTS {
        let first = serve(variant, |builder| builder, |_| Echo);
        let started = builder(variant).listen(first.addr).start(|_| Echo);
        let Err(error) = started else { panic!("two servers share {}", first.addr) };
        let want = format!("{} is served by another process already; stop it, or listen elsewhere", first.addr);
        assert_eq!(error.to_string(), want);

        let mut binary = Binary::spawn(variant, None, &["--listen", &first.addr.to_string()]);
        assert_eq!(binary.wait().code(), Some(1));
        binary.wait_for_log(&want);

        // One address that is taken takes none of the others.
        let other = free_address();
        let started = builder(variant).listen(other).listen(first.addr).start(|_| Echo);
        assert!(matches!(started, Err(StartError::Listen(ListenError::Taken { .. }))));
        TcpListener::bind(other).expect("it was given back");
    }
    assert!(matches!(Server::builder().start(|_| Echo), Err(StartError::NoAddress)));
    let far = builder(VARIANTS[0]).listen("192.0.2.1:80".parse().unwrap()).start(|_| Echo);
    assert!(matches!(far, Err(StartError::Listen(ListenError::Refused { .. }))));
    let far = builder(VARIANTS[0]).listen("127.0.0.1:0".parse().unwrap()).cores(vec![0, 4000]).start(|_| Echo);
    assert!(matches!(far, Err(StartError::Core { core: 4000, .. })));
}

/// An address that is free and stays so: the other tests listen on 127.0.0.1 and connect from it.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.2:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

/// A handler that cannot be made is a server that does not start, and leaves nothing behind.
#[test]
fn a_core_that_cannot_begin_is_told_and_the_others_end() {
    for variant in VARIANTS {
        let folder = Folder::new();
        let path = folder.path("gone.sock");
        let port = free_address();
        let unix = ListenAddr::Unix { path: path.clone(), mode: 0o600 };
        let start = builder(variant).cores(vec![0, 1]).listen(port).listen_on(unix);
        let started = bounded("it fails to start", move || {
            start.start(|core| {
                assert_ne!(core, 1, "as the test wants");
                Echo
            })
        });
        assert!(matches!(started, Err(StartError::Thread { core: 1, .. })), "{:?}", started.err());
        assert!(!path.exists());
        TestServer::new(builder(variant).listen(port).start(|_| Echo).expect("the port is free at once"));
    }
}

#[test]
fn a_unix_socket_has_its_mode_and_goes_with_its_server() {
    for variant in VARIANTS {
        let folder = Folder::new();
        let path = folder.path("corewire.sock");
        for mode in [0o600, 0o666] {
            let unix = ListenAddr::Unix { path: path.clone(), mode };
            let server = TestServer::new(builder(variant).listen_on(unix).start(|_| Echo).expect("it starts"));
            assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, mode);
            let mut clients: Vec<_> = (0..20).map(|_| Client::unix(&path).upgraded("")).collect();
            for (n, client) in clients.iter_mut().enumerate() {
                client.send(BINARY, &vec![n as u8; 100_000]);
            }
            for (n, client) in clients.iter_mut().enumerate() {
                assert!(client.message() == (BINARY, vec![n as u8; 100_000]));
            }
            clients.into_iter().for_each(Client::close);
            server.wait_until_empty();
            server.stop().expect("no core broke");
            assert!(!path.exists(), "the file is still there");
        }
    }
}

#[test]
fn a_stale_unix_socket_is_replaced_a_live_one_and_other_files_are_left_alone() {
    for variant in VARIANTS {
        let folder = Folder::new();
        let path = folder.path("corewire.sock");
        let start = || {
            let unix = ListenAddr::Unix { path: path.clone(), mode: 0o600 };
            builder(variant).listen_on(unix).start(|_| Echo)
        };
        drop(UnixListener::bind(&path).expect("a socket"));
        let server = TestServer::new(start().expect("a stale file is no hindrance"));
        Client::unix(&path).upgraded("").close();

        assert!(matches!(start(), Err(StartError::Listen(ListenError::Taken { .. }))));
        Client::unix(&path).upgraded("").close();
        server.stop().expect("no core broke");

        fs::write(&path, "precious").expect("a file");
        let Err(error) = start() else { panic!("it listens on a file") };
        let want = format!("{} exists and is not a socket; it is left alone, listen elsewhere", path.display());
        assert_eq!(error.to_string(), want);
        assert_eq!(fs::read(&path).expect("it is there"), b"precious");
    }
}

/// A server that drains has left its path: the next one may stand there already.
#[test]
fn the_next_server_on_a_path_is_not_unlinked_by_the_one_that_drains() {
    for variant in VARIANTS {
        let folder = Folder::new();
        let path = folder.path("corewire.sock");
        let start = || {
            let unix = ListenAddr::Unix { path: path.clone(), mode: 0o600 };
            builder(variant).drain_time(Duration::ZERO).listen_on(unix).start(|_| Echo)
        };
        let old = start().expect("it starts");
        let handle = old.handle();
        let mut client = Client::unix(&path).upgraded("");
        let draining = thread::spawn(move || old.drain());
        assert_eq!(client.close_frame().0, 1001);
        let next = TestServer::new(start().expect("the path is free"));
        assert_eq!(handle.connection_count(), 1);
        client.send_close(1001, "");
        client.end();
        drop(client);
        bounded("the drain ends", || draining.join()).expect("no panic").expect("no core broke");
        assert!(path.exists());
        Client::unix(&path).upgraded("").close();
        drop(next);
    }
}

// ---- draining ------------------------------------------------------------------------------------------------

fn status(addr: SocketAddr, path: &str) -> io::Result<u16> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply)?;
    reply.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(io::ErrorKind::InvalidData.into())
}

#[test]
fn a_drain_says_not_ready_then_closes_the_listeners_then_spreads_its_closes() {
    // Enough of both for a machine that stands still for two seconds meanwhile.
    const DELAY: Duration = Duration::from_millis(3000);
    const TIME: Duration = Duration::from_millis(3500);
    at_once(|variant| {
        let mut server = serve(variant, |builder| builder.drain_delay(DELAY).drain_time(TIME), |_| Echo);
        let mut clients: Vec<_> = (0..60).map(|_| Client::open(server.addr)).collect();
        assert_eq!(status(server.addr, "/readyz").expect("an answer"), 200);
        let running = server.running.take().expect("it runs");
        let start = Instant::now();
        let draining = thread::spawn(move || running.drain());
        until("it is not ready", || status(server.addr, "/readyz").is_ok_and(|status| status == 503));
        assert_eq!(status(server.addr, "/healthz").expect("an answer"), 200);
        // Who comes in the delay is still served: the balancer does not know yet.
        clients.push(Client::open(server.addr));
        clients[60].send_text("late but welcome");
        assert_eq!(clients[60].text(), "late but welcome");
        assert!(start.elapsed() < DELAY, "the machine is too slow for this test: {:?}", start.elapsed());

        let waiting: Vec<_> = clients
            .into_iter()
            .map(|mut client| {
                thread::spawn(move || {
                    assert_eq!(client.close_frame().0, 1001);
                    let after = start.elapsed();
                    client.send_close(1001, "");
                    client.end();
                    after
                })
            })
            .collect();
        let mut closed_after: Vec<_> =
            waiting.into_iter().map(|thread| thread.join().expect("it is told to leave")).collect();
        closed_after.sort();
        assert!(closed_after[0] >= DELAY, "{:?}", closed_after[0]);
        let spread = closed_after[60] - closed_after[0];
        assert!(spread > TIME / 3 && spread < 3 * TIME, "{spread:?}");
        bounded("the drain ends", || draining.join()).expect("no panic").expect("no core broke");
        assert!(TcpStream::connect(server.addr).is_err(), "nobody listens any more");
    });
}

/// Echoes, and defers what asks for it.
struct Hesitant(std::sync::mpsc::Sender<Deferred>);

impl Handler for Hesitant {
    type Session = ();

    fn upgrade(&mut self, conn: &mut Conn<'_>, _: &Request<'_>) -> Upgrade<()> {
        self.0.send(conn.defer()).expect("the test waits");
        Upgrade::Defer
    }

    fn upgrade_deferred(&mut self, _: &mut Conn<'_>, _: &Request<'_>, _: Box<dyn std::any::Any + Send>) -> Upgrade<()> {
        Upgrade::Accept(Accept::new(()))
    }

    fn message(&mut self, _: &mut Conn<'_>, _: &mut (), _: Message<'_>) {}
}

/// Whoever is half inside when a drain begins must not keep the server alive for ever: it is given up with the others, or
/// refused when it comes to an end before.
/// Tells itself something again and again, and everybody something every now and then.
struct Restless {
    handle: Arc<OnceLock<Handle>>,
    told: usize,
}

impl Handler for Restless {
    type Session = ();

    fn upgrade(&mut self, _: &mut Conn<'_>, _: &Request<'_>) -> Upgrade<()> {
        Upgrade::Accept(Accept::new(()))
    }

    fn message(&mut self, _: &mut Conn<'_>, _: &mut (), _: Message<'_>) {}

    fn cast(&mut self, core: &mut Core<'_>, _: &(dyn Any + Send + Sync)) {
        self.told += 1;
        if self.told.is_multiple_of(512) {
            core.broadcast(MessageKind::Text, Bytes::from_static(b"again"));
        }
        let _ = self.handle.get().expect("it was put there before").cast(0, Arc::new(()));
    }
}

/// More are sent something in each turn than are written to in one.
#[test]
fn a_stop_waits_for_nobody_who_is_sent_something_all_the_time() {
    for variant in VARIANTS {
        let handle = Arc::new(OnceLock::new());
        let server = serve(variant, |builder| builder.cores(vec![0]), {
            let handle = handle.clone();
            move |_| Restless { handle: handle.clone(), told: 0 }
        });
        let mut clients: Vec<_> = (0..300).map(|_| Client::open(server.addr)).collect();
        assert!(handle.set(server.handle.clone()).is_ok());
        server.handle.cast(0, Arc::new(())).expect("room");
        assert_eq!(clients[299].text(), "again");
        server.stop().expect("no core broke");
    }
}

#[test]
fn a_drain_ends_although_handshakes_are_under_way() {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    for variant in VARIANTS {
        for (drain_time, is_given_up) in [(Duration::ZERO, true), (YEAR, false)] {
            let (sender, deferred) = std::sync::mpsc::channel();
            let sender = std::sync::Mutex::new(sender);
            let limits = Limits { handshake_timeout: YEAR, ..Limits::default() };
            let mut server = serve(
                variant,
                |builder| builder.drain_delay(Duration::ZERO).drain_time(drain_time).limits(limits),
                move |_| Hesitant(sender.lock().expect("no panic while it was held").clone()),
            );
            let mut asked = Client::tcp(server.addr);
            asked.send_raw(common::request("/", "").as_bytes());
            let deferred = deferred.recv_timeout(PATIENCE).expect("it is deferred");
            let mut slow = Client::tcp(server.addr);
            let request = common::request("/", "");
            slow.send_raw(&request.as_bytes()[..30]);
            until("both are there", || server.handle.connection_count() == 2);
            let running = server.running.take().expect("it runs");
            let draining = thread::spawn(move || running.drain());
            until("the listener is gone", || TcpStream::connect(server.addr).is_err());
            if is_given_up {
                assert_eq!(asked.reply().status, 503);
                assert_eq!(slow.reply().status, 408);
            } else {
                deferred.answer(()).expect("there is room");
                assert_eq!(asked.reply().status, 503);
                slow.send_raw(&request.as_bytes()[30..]);
                assert_eq!(slow.reply().status, 503);
            }
            asked.end();
            slow.end();
            drop((asked, slow));
            bounded("the drain ends", || draining.join()).expect("no panic").expect("no core broke");
        }
    }
}

/// Everything that was echoed before the Close arrives, at every client, whatever the moment of the signal.
#[test]
fn sigterm_under_load_loses_nothing() {
    for variant in VARIANTS {
        let mut binary = Binary::on_any_port(variant, &["echo", "--drain-time", "300ms"]);
        let addr = binary.addr();
        let talking = Arc::new(AtomicUsize::new(0));
        let clients: Vec<_> = (0..40)
            .map(|n| {
                let talking = talking.clone();
                thread::spawn(move || talk_until_closed(addr, n, &talking))
            })
            .collect();
        until("all of them talk", || talking.load(Ordering::Relaxed) == 40);
        binary.signal(Signal::TERM);
        for client in clients {
            client.join().expect("nothing is lost");
        }
        assert_eq!(binary.wait().code(), Some(0));
        binary.wait_for_log("draining");
        binary.wait_for_log("stopped");
    }
}

/// Sends numbered messages without waiting, until the Close comes; what came back before it has no gap.
fn talk_until_closed(addr: SocketAddr, seed: u8, talking: &AtomicUsize) {
    let mut client = Client::open(addr);
    let mut writer = client.writer();
    let closed = Arc::new(AtomicBool::new(false));
    let told = closed.clone();
    let len = 20 + usize::from(seed) * 500;
    let writing = thread::spawn(move || {
        for n in 0u64.. {
            let mut payload = n.to_be_bytes().to_vec();
            payload.resize(len, seed);
            if told.load(Ordering::Relaxed) || writer.write_all(&frame(BINARY, &payload)).is_err() {
                break;
            }
        }
        // The closing handshake ends behind whole frames.
        let _ = writer.write_all(&frame(CLOSE, &common::close_payload(1001, "")));
    });
    for n in 0u64.. {
        let frame = client.frame();
        if frame.opcode == CLOSE {
            assert_eq!(common::close_parts(&frame.payload).0, 1001);
            assert!(n > 20, "only {n} messages were echoed");
            break;
        }
        if n == 20 {
            talking.fetch_add(1, Ordering::Relaxed);
        }
        assert_eq!((frame.payload.len(), &frame.payload[..8]), (len, &n.to_be_bytes()[..]), "message {n}");
    }
    closed.store(true, Ordering::Relaxed);
    client.end();
    writing.join().expect("no panic");
}

#[test]
fn what_is_queued_when_the_signal_comes_is_written_first() {
    for variant in VARIANTS {
        // Three megabytes through so narrow a way may take a busy machine longer than the usual five seconds.
        let mut binary = Binary::on_any_port(variant, &["echo", "--drain-time", "0", "--close-timeout", "1m"]);
        let mut client = Client::tcp_narrow(binary.addr()).upgraded("");
        let payload = common::noise(3 << 20, &mut random());
        client.send(BINARY, &payload);
        // Its echo has begun to come, and cannot be done.
        let head = client.socket.read(&mut [0; 1]).expect("the first byte");
        assert_eq!(head, 1);
        binary.signal(Signal::TERM);
        binary.wait_for_log("draining");
        let mut echo = vec![0; 9 + payload.len()];
        client.socket.read_exact(&mut echo).expect("all of it");
        assert!(echo[9..] == payload);
        assert_eq!(client.close_frame().0, 1001);
        client.send_close(1001, "");
        client.end();
        drop(client);
        assert_eq!(binary.wait().code(), Some(0));
    }
}

#[test]
fn both_signals_drain_and_a_second_one_ends_at_once() {
    for variant in VARIANTS {
        for signal in [Signal::TERM, Signal::INT] {
            let mut binary = Binary::on_any_port(variant, &["echo", "--drain-delay", "1h"]);
            let mut client = Client::open(binary.addr());
            binary.signal(signal);
            binary.wait_for_log("draining");
            client.send_text("not yet");
            assert_eq!(client.text(), "not yet");
            let start = Instant::now();
            binary.signal(signal);
            assert_eq!(binary.wait().code(), Some(if signal == Signal::TERM { 143 } else { 130 }));
            assert!(start.elapsed() < Duration::from_secs(5));
            client.gone();
        }
    }
}

#[test]
fn the_binary_says_it_is_not_ready_while_the_balancer_learns_of_it() {
    at_once(|variant| {
        let mut binary = Binary::on_any_port(
            variant,
            &["serve", "--drain-delay", "3s", "--drain-time", "100ms", "--admin", "127.0.0.1:0"],
        );
        binary.wait_for_log("admin on http://");
        let log = binary.log();
        let admin = log.split("admin on http://").nth(1).and_then(|rest| rest.lines().next()).expect("an address");
        let admin: SocketAddr = admin.trim().parse().expect("an address");
        for addr in [binary.addr(), admin] {
            assert_eq!(status(addr, "/readyz").expect("an answer"), 200);
        }
        let mut client = Client::open_at(binary.addr(), "/ws?topic=a");
        binary.signal(Signal::TERM);
        for addr in [binary.addr(), admin] {
            until("it is not ready", || status(addr, "/readyz").is_ok_and(|status| status == 503));
            assert_eq!(status(addr, "/healthz").expect("an answer"), 200);
        }
        let mut late = Client::open_at(binary.addr(), "/ws?topic=a");
        for client in [&mut client, &mut late] {
            assert_eq!(client.close_frame().0, 1001);
            client.send_close(1001, "");
            client.end();
        }
        drop((client, late));
        assert_eq!(binary.wait().code(), Some(0));
    });
}

#[test]
fn the_binary_unlinks_its_unix_socket() {
    for variant in VARIANTS {
        let folder = Folder::new();
        let path = folder.path("corewire.sock");
        let listen = format!("unix:{}", path.display());
        let mut binary = Binary::start(variant, 1, &["echo", "--listen", &listen, "--unix-mode", "620"]);
        assert_eq!(binary.lines, [format!("listening on {listen}")]);
        assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o620);
        let mut client = Client::unix(&path).upgraded("");
        client.send(TEXT, b"through the file system");
        assert_eq!(client.text(), "through the file system");
        client.close();
        binary.signal(Signal::INT);
        assert_eq!(binary.wait().code(), Some(0));
        assert!(!path.exists());
    }
}

/// What else can go wrong after the listeners stand must not leave the file behind.
#[test]
fn a_start_that_fails_late_leaves_no_unix_socket() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let admin = taken.local_addr().expect("an address").to_string();
    for variant in VARIANTS {
        let folder = Folder::new();
        let path = folder.path("corewire.sock");
        let listen = format!("unix:{}", path.display());
        let mut binary = Binary::spawn(variant, None, &["serve", "--listen", &listen, "--admin", &admin]);
        assert_eq!(binary.wait().code(), Some(1));
        binary.wait_for_log("admin listener");
        assert!(!path.exists());
    }
}
