//! Two sessions end to end, in memory.

use rcgen::{CertifiedKey, generate_simple_self_signed};

use super::{ClientTls, Progress, ServerTls, Session, TlsError, Trust};

/// A session and what has not reached it yet.
struct End {
    session: Session,
    /// Ciphertext received and not consumed.
    input: Vec<u8>,
    /// Ciphertext to be sent.
    output: Vec<u8>,
    plaintext: Vec<u8>,
}

impl End {
    fn new(session: Session) -> Self {
        Self {
            session,
            input: Vec::new(),
            output: Vec::new(),
            plaintext: Vec::new(),
        }
    }

    fn read(&mut self, bytes: &[u8]) -> Result<Progress, TlsError> {
        self.input.extend_from_slice(bytes);
        let progress = self
            .session
            .read(&mut self.input, &mut self.plaintext, &mut self.output)?;
        self.input.drain(..progress.consumed);
        Ok(progress)
    }
}

fn pair() -> (End, End) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let server = ServerTls::from_pem(
        cert.pem().as_bytes(),
        signing_key.serialize_pem().as_bytes(),
        None,
    )
    .expect("a server");
    let client = ClientTls::new(Trust::Roots(cert.pem().as_bytes())).expect("a client");
    (
        End::new(client.session("localhost").expect("a session")),
        End::new(server.session().expect("a session")),
    )
}

#[test]
fn a_message_goes_there_and_back() {
    let (mut client, mut server) = pair();
    client.read(&[]).expect("a ClientHello");
    for _ in 0..4 {
        server
            .read(&std::mem::take(&mut client.output))
            .expect("server reads");
        client
            .read(&std::mem::take(&mut server.output))
            .expect("client reads");
    }
    client
        .session
        .write(b"hello", &mut client.output)
        .expect("client writes");
    server
        .read(&std::mem::take(&mut client.output))
        .expect("server reads");
    assert_eq!(server.plaintext, b"hello");
    assert_eq!(server.session.facts().sni.as_deref(), Some("localhost"));
    assert_eq!(server.session.facts().alpn.as_deref(), Some("http/1.1"));
    server
        .session
        .write(b"hi", &mut server.output)
        .expect("server writes");
    client
        .read(&std::mem::take(&mut server.output))
        .expect("client reads");
    assert_eq!(client.plaintext, b"hi");
}
