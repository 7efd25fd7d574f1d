//! What cannot be done is said in a sentence that helps, with exit code 2.

mod support;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use support::{Fault, corewire, free_port, load, serve};

fn assert_refused(output: &Output, words: &str, want: &str) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{words}: {error}");
    assert!(error.contains(want), "{words}: {error}");
}

#[test]
fn a_handshake_that_is_answered_otherwise() {
    let cases = [
        (200, "that is a page, not a WebSocket"),
        (301, "this tool does not follow"),
        (401, "--header"),
        (403, "--header"),
        (404, "is the path right?"),
        (503, "a --ramp"),
        (500, "answered 500"),
    ];
    for (status, want) in cases {
        let words = format!("echo ws://127.0.0.1:{}/ --quiet", serve(Fault::Status(status)));
        let output = load(&words);
        assert_refused(&output, &words, &format!("answered {status}"));
        assert_refused(&output, &words, want);
    }
}

#[test]
fn the_wrong_protocol() {
    let plain = serve(Fault::Status(400));
    let words = format!("echo wss://127.0.0.1:{plain}/ --quiet");
    assert_refused(&load(&words), &words, "try ws:// instead of wss://");
    let words = format!("echo ws://127.0.0.1:{}/ --quiet", serve_once(b"SSH-2.0-none\r\n"));
    assert_refused(&load(&words), &words, "is it a WebSocket server?");
    let words = format!("echo ws://127.0.0.1:{}/ --quiet", serve_once(b""));
    assert_refused(&load(&words), &words, "closed the connection during the opening handshake");
    let words = format!("echo tcp://127.0.0.1:{plain}/ --quiet --compress");
    assert_refused(&load(&words), &words, "tcp:// has none");
}

/// Answers the first bytes of each connection with these, and leaves.
fn serve_once(answer: &'static [u8]) -> u16 {
    use std::io::{Read, Write};
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // A peer that left needs no answer.
            let _ = stream.read(&mut [0; 4096]).and_then(|_| stream.write_all(answer));
        }
    });
    port
}

#[test]
fn certificates_are_checked_against_the_roots_that_are_given() {
    let folder = Folder::new("tls");
    let (ours, others) = (authority(), authority());
    let roots = folder.write("roots.pem", &ours.pem());
    let other_roots = folder.write("others.pem", &others.pem());
    let no_roots = folder.write("none.pem", "nothing");
    let key = KeyPair::generate().unwrap();
    let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
    let good = CertificateParams::new(names).unwrap().signed_by(&key, &ours).unwrap();
    let misnamed = CertificateParams::new(["example.org".to_owned()]).unwrap().signed_by(&key, &ours).unwrap();
    let good = folder.write("good.pem", &good.pem());
    let misnamed = folder.write("misnamed.pem", &misnamed.pem());
    let key = folder.write("key.pem", &key.serialize_pem());
    let run = |certificate: &Path, roots: Option<&Path>| {
        let port = free_port();
        let server = format!(
            "{} echo --listen 127.0.0.1:{port} --log-level error --tls-cert {} --tls-key {}",
            corewire().display(),
            certificate.display(),
            key.display()
        );
        let mut tool = Command::new(env!("CARGO_BIN_EXE_corewire-load"));
        tool.args(["echo", &format!("wss://127.0.0.1:{port}/"), "-c", "2", "--for", "300ms", "--warm-up", "0s"]);
        tool.args(["--quiet", "--spawn", &server]);
        if let Some(roots) = roots {
            tool.arg("--tls-roots").arg(roots);
        }
        tool.output().unwrap()
    };
    assert_refused(&run(&good, Some(&other_roots)), "another authority", "certificate is refused");
    assert_refused(&run(&good, Some(&other_roots)), "another authority", "--tls-roots must hold the authority");
    assert_refused(&run(&misnamed, Some(&roots)), "another name", "certificate is refused");
    assert_refused(&run(&misnamed, Some(&roots)), "another name", "the name that it was made for");
    assert_refused(&run(&good, Some(&no_roots)), "no certificate in it", "holds no certificate");
    for (certificate, roots) in [(&good, Some(&*roots)), (&misnamed, None)] {
        let output = run(certificate, roots);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(String::from_utf8_lossy(&output.stdout).contains("0 lost, 0 duplicate, 0 out of order, 0 corrupt"));
    }
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

#[test]
fn more_connections_than_descriptors() {
    let tool = env!("CARGO_BIN_EXE_corewire-load");
    let port = serve(Fault::None);
    for (limit, connections, want) in [(200, 150, "this process may open: 136"), (40, 1, "this process may open: 0")] {
        let line = format!("ulimit -n {limit}; exec {tool} echo ws://127.0.0.1:{port}/ -c {connections} --quiet");
        let output = Command::new("sh").args(["-c", &line]).output().unwrap();
        assert_refused(&output, &line, want);
        assert_refused(&output, &line, "ulimit -Hn");
    }
}

#[test]
fn plans_with_a_key_that_nobody_knows() {
    let folder = Folder::new("plans");
    let phase = "[common]\nurl = 'ws://127.0.0.1:1/'\n[[phase]]\nscenario = 'echo'\n";
    let cases = [
        ("run", format!("{phase}ratez = 3\n"), "phase 1: unexpected argument '--ratez'"),
        ("run", format!("surprise = 1\n{phase}"), "`surprise` is unknown"),
        ("run", format!("{phase}connections = 'many'\n"), "`many` is no count"),
        ("run", "[[phase]]".to_owned(), "scenario is missing"),
        ("compare", "refernce = 'x'\n".to_owned(), "refernce"),
    ];
    for (command, text, want) in cases {
        let plan = folder.write("plan.toml", &text);
        let words = format!("{command} {}", plan.display());
        let output = load(&words);
        assert_refused(&output, &text, want);
        assert_refused(&output, &text, "plan.toml");
    }
}

#[test]
fn what_does_not_fit_together() {
    let cases = [
        ("fanout ws://127.0.0.1:1/ --inflight 2 --rate 5", "cannot be used with"),
        ("fanout ws://127.0.0.1:1/ --publishers 2 --size 4", "to be told apart"),
        ("fanout ws://127.0.0.1:1/ --topics 2", "need --wire, or --subscribe and --publish"),
        ("fanout ws://127.0.0.1:1/ --publishers 1M", "too many for so many subscribers"),
        ("fanout ws://127.0.0.1:1/ --rate 1 --burst 10k", "leaves hardly ever"),
        ("fanout ws://127.0.0.1:1/ --publish-url http://127.0.0.1:1/", "--publish-url needs --wire"),
        ("fanout ws://127.0.0.1:1/ --subscribers 3", "--wire"),
        ("fanout ws://127.0.0.1:1/ --wire corewire.v2", "corewire.v1"),
        ("fanout ws://127.0.0.1:1/ --wire corewire.v1 --inflight 2", "cannot be used with"),
        ("fanout ws://127.0.0.1:1/ --wire corewire.v1 --topics 100 -c 10", "more than there are subscriptions"),
        ("fanout ws://127.0.0.1:1/ --wire corewire.v1 --topics 2 --subscribers 10 -c 50", "to have one each"),
        ("fanout ws://127.0.0.1:1/ --wire corewire.v1 --topics 5 --subscribers 10 -c 6", "subscribe twice"),
        (
            "fanout ws://127.0.0.1:1/ --wire corewire.v1 --topics 10M --subscribers 10 -c 1k",
            "subscriptions are too many",
        ),
        ("fanout ws://127.0.0.1:1/ --wire corewire.v1 --topics 1M --subscribers 1 -c 1k --publishers 20", "told apart"),
        ("fanout ws://127.0.0.1:1/ --wire corewire.v1 --size 4", "12 bytes of data"),
        ("fanout ws://127.0.0.1:1/ --wire corewire.v1 --rate 1 --burst 10k", "leaves hardly ever"),
        ("fanout tcp://127.0.0.1:1/ --wire corewire.v1", "tcp:// is none"),
        ("fanout ws://127.0.0.1:1/ --token a.b.c", "a token needs --wire"),
        ("idle ws://127.0.0.1:1/ --token a.b.c", "a token needs --wire"),
        ("recovery ws://127.0.0.1:1/ --token a.b.c --token-file x", "cannot be used with"),
        ("recovery ws://127.0.0.1:1/ --token a&b", "--token is no token"),
        ("recovery ws://127.0.0.1:1/ --token-file /no/such/token", "--token-file /no/such/token cannot be read"),
        ("recovery ws://127.0.0.1:1/ --publish-url https://127.0.0.1/", "is no URL to publish to"),
        ("recovery ws://127.0.0.1:1/ --publish-url http://192.0.2.1/", "not on this machine"),
        ("recovery ws://127.0.0.1:1/ --drop 120%", "120%"),
        ("idle ws://127.0.0.1:1/ --wire raw --hot-for 1s", "cannot be used with"),
        ("idle ws://127.0.0.1:1/ --topics 3", "--wire"),
        ("echo ws://127.0.0.1:1/ --json /no/such/folder/report.json", "cannot be written"),
        ("echo ws://127.0.0.1:99999/", "no number up to 65535"),
        ("echo ws://name.invalid/", "cannot be resolved"),
    ];
    for (words, want) in cases {
        assert_refused(&load(words), words, want);
    }
}

/// A folder that goes with this value.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("corewire-load-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Who cannot clean up has shown what was to be shown all the same.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
