//! What becomes of a request head: a WebSocket, a stream, a plain response, or a question that waits (RFC 6455 §4.2.2).

use std::any::Any;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::reach::LOCAL;
use super::{State, cors};
use crate::handler::{Accept, Conn, Core, Handler, Peer, Request, Upgrade};
use crate::http::{self, HeadLimits, HeadScratch, Parsed, RequestHead, Response};
use crate::ids::ConnId;
use crate::protocol::Payload;
use crate::protocol::handshake::{self, Refusal, UpgradeRequest};

impl<H: Handler> State<H> {
    pub(super) fn handle_head(&mut self, index: u32, bytes: &Payload<'_>) {
        self.with_head(bytes.bytes(), |state, head| state.answer_head(index, head, bytes));
    }

    /// The application has made up its mind about a deferred request.
    pub(super) fn handle_answer(&mut self, id: ConnId, answer: Option<Box<dyn Any + Send>>) {
        let index = id.index;
        if self.core.id(index) != id {
            return; // gone meanwhile, at its deadline or by itself
        }
        let Some(bytes) = self.core.deferred.remove(&index) else { return };
        self.with_head(&bytes, |state, head| {
            let upgrade = handshake::check_upgrade(head).ok();
            if state.core.draining {
                return state.refuse_draining(index);
            }
            let decision = match answer {
                Some(answer) => state
                    .ask(index, head, upgrade.as_ref(), |handler, conn, request| {
                        handler.upgrade_deferred(conn, request, answer)
                    })
                    .unwrap_or_else(failed),
                None => Upgrade::Refuse(Response::text(503, "The application gave no answer.\n")),
            };
            let decision = match decision {
                Upgrade::Defer => Upgrade::Refuse(Response::text(500, "An answer cannot be deferred twice.\n")),
                Upgrade::Accept(_) | Upgrade::Refuse(_) => decision,
            };
            match upgrade {
                Some(upgrade) => state.carry_out(index, decision, &upgrade, &Payload::Borrowed(&[])),
                None => state.carry_out_stream(index, decision, head, &Payload::Borrowed(&[])),
            }
        });
        self.core.touch(index);
    }

    /// The head was parsed once to find its end; this time it is read.
    fn with_head(&mut self, bytes: &[u8], then: impl FnOnce(&mut Self, &RequestHead<'_>)) {
        let limits = self.core.workspace.limits();
        let limits = HeadLimits { bytes_max: limits.header_bytes_max, headers_max: limits.headers_max };
        match http::parse_request(bytes, limits, &mut HeadScratch::new()) {
            Ok(Parsed::Complete { head, .. }) => then(self, &head),
            Ok(Parsed::Incomplete) | Err(_) => unreachable!("the same bytes were a whole head a moment ago"),
        }
    }

    fn answer_head(&mut self, index: u32, head: &RequestHead<'_>, bytes: &Payload<'_>) {
        if let Some(response) = self.answer_probe(head) {
            self.core.metrics.http_requests.add(1);
            return self.respond(index, &response);
        }
        let upgrade = match handshake::check_upgrade(head) {
            Ok(upgrade) => upgrade,
            Err(Refusal::NotAnUpgrade) => {
                self.core.metrics.http_requests.add(1);
                return self.answer_plain(index, head, bytes);
            }
            Err(Refusal::MethodUnsupported) if cors::is_preflight(head) => {
                self.core.metrics.http_requests.add(1);
                return self.respond(index, &cors::preflight(&self.core.origin, head));
            }
            Err(refusal) => {
                self.core.metrics.refused_handshake.add(1);
                return self.respond(index, &refusal.response());
            }
        };
        if self.core.draining {
            return self.refuse_draining(index);
        }
        if !self.core.origin.allows(upgrade.origin(), head.host()) {
            self.core.metrics.refused_origin.add(1);
            return self.respond(index, &Response::text(403, ORIGIN_REFUSED));
        }
        let decision = self.ask(index, head, Some(&upgrade), |handler, conn, request| handler.upgrade(conn, request));
        self.carry_out(index, decision.unwrap_or_else(failed), &upgrade, bytes);
    }

    /// No WebSocket is asked for.
    fn answer_plain(&mut self, index: u32, head: &RequestHead<'_>, bytes: &Payload<'_>) {
        let decision = self.ask(index, head, None, |handler, conn, request| handler.stream(conn, request));
        let Some(decision) = decision.unwrap_or_else(|| Some(failed())) else {
            let response = self.ask_plain(index, head);
            return self.respond(index, &response);
        };
        if self.core.draining {
            return self.refuse_draining(index);
        }
        if !cors::admits(&self.core.origin, head) {
            self.core.metrics.refused_origin.add(1);
            return self.respond(index, &Response::text(403, ORIGIN_REFUSED));
        }
        self.carry_out_stream(index, decision, head, bytes);
    }

    /// Health for load balancers, whatever the application answers elsewhere.
    fn answer_probe(&self, head: &RequestHead<'_>) -> Option<Response> {
        match head.path() {
            "/healthz" => Some(Response::text(200, "ok\n")),
            "/readyz" if !self.core.ready => Some(Response::text(503, "draining\n")),
            "/readyz" => Some(Response::text(200, "ready\n")),
            _ => None,
        }
    }

    fn carry_out(
        &mut self,
        index: u32,
        decision: Upgrade<H::Session>,
        upgrade: &UpgradeRequest<'_>,
        bytes: &Payload<'_>,
    ) {
        match decision {
            Upgrade::Accept(accept) => self.accept(index, accept, upgrade),
            Upgrade::Refuse(response) => self.refuse(index, &response),
            Upgrade::Defer => self.defer(index, bytes),
        }
    }

    fn carry_out_stream(
        &mut self,
        index: u32,
        decision: Upgrade<H::Session>,
        head: &RequestHead<'_>,
        bytes: &Payload<'_>,
    ) {
        match decision {
            Upgrade::Accept(accept) => self.accept_stream(index, accept, head),
            Upgrade::Refuse(response) => self.refuse(index, &cors::readable(response, head)),
            Upgrade::Defer => self.defer(index, bytes),
        }
    }

    fn defer(&mut self, index: u32, bytes: &Payload<'_>) {
        self.core.deferred.insert(index, bytes.bytes().into());
        if let Some(record) = self.core.slab.get_mut(index) {
            record.connection.defer();
        }
    }

    fn accept(&mut self, index: u32, accept: Accept<H::Session>, upgrade: &UpgradeRequest<'_>) {
        let Accept { session, wire, subprotocol, headers } = accept;
        if let Some(name) = &subprotocol
            && !upgrade.protocols().any(|offered| offered == name)
        {
            tracing::error!(subprotocol = name, "the handler chose a subprotocol that the peer did not offer");
            return self.refuse(index, &Response::text(500, "The server chose a subprotocol that was not offered.\n"));
        }
        let now = self.core.now;
        let agreement = self.core.workspace.deflate_options().and_then(|options| upgrade.agree_on_deflate(&options));
        let accepted = agreement.as_ref();
        let Some(record) = self.core.slab.get_mut(index) else { return };
        record.wire = wire;
        record.connection.accept(
            agreement,
            |out| handshake::write_accept(out, &upgrade.accept_key(), subprotocol.as_deref(), accepted, &headers),
            &mut self.core.workspace,
            now,
        );
        self.begin(index, session);
    }

    fn accept_stream(&mut self, index: u32, accept: Accept<H::Session>, head: &RequestHead<'_>) {
        let Accept { session, wire, subprotocol: _, headers } = accept;
        let response = cors::readable(stream_head(headers), head);
        if head.method() == "HEAD" {
            return self.respond(index, &response);
        }
        let now = self.core.now;
        let Some(record) = self.core.slab.get_mut(index) else { return };
        record.wire = wire;
        record.connection.stream(|out| response.write_to(out), &mut self.core.workspace, now);
        self.begin(index, session);
    }

    /// From now on it has a session.
    fn begin(&mut self, index: u32, session: H::Session) {
        self.core.peers.remove(&index);
        self.core.note_given_up();
        self.core.metrics.connections_handshaking.sub(1);
        self.core.metrics.connections_open.add(1);
        self.sessions[index] = Some(session);
        self.with_session(index, |handler, conn, session| handler.open(conn, session));
    }

    fn refuse(&mut self, index: u32, response: &Response) {
        self.core.metrics.refused_handler.add(1);
        self.respond(index, response);
    }

    /// It would have to leave at once, and nothing would make it.
    fn refuse_draining(&mut self, index: u32) {
        self.core.metrics.refused_draining.add(1);
        self.respond(index, &Response::text(503, "This server is shutting down.\n"));
    }

    pub(super) fn respond(&mut self, index: u32, response: &Response) {
        let now = self.core.now;
        if let Some(record) = self.core.slab.get_mut(index) {
            record.connection.respond(response, &mut self.core.workspace, now);
            self.core.leave_opening(index);
        }
    }

    fn ask_plain(&mut self, index: u32, head: &RequestHead<'_>) -> Response {
        let request = self.request(index, head, None);
        self.guard(|handler, core: &mut Core<'_>| handler.request(core, &request))
            .unwrap_or_else(|| Response::text(500, FAILED))
    }

    /// Asks the handler about a request. `None`: it panicked.
    fn ask<T>(
        &mut self,
        index: u32,
        head: &RequestHead<'_>,
        upgrade: Option<&UpgradeRequest<'_>>,
        question: impl FnOnce(&mut H, &mut Conn<'_>, &Request<'_>) -> T,
    ) -> Option<T> {
        let request = self.request(index, head, upgrade);
        let id = self.core.id(index);
        let (handler, core) = (&mut self.handler, &mut self.core);
        let asked = catch_unwind(AssertUnwindSafe(|| question(handler, &mut Conn::new(core, id), &request)));
        asked.map_err(|_panic| self.handle_panic(None)).ok()
    }

    fn request<'a>(
        &self,
        index: u32,
        head: &'a RequestHead<'a>,
        upgrade: Option<&'a UpgradeRequest<'a>>,
    ) -> Request<'a> {
        let peer = self.core.peers.get(&index).copied().unwrap_or(Peer::Unix);
        Request {
            head,
            upgrade,
            peer,
            client: self.client(peer, head),
            #[cfg(feature = "tls")]
            tls: self.core.connection(index).and_then(|connection| connection.tls_facts()),
        }
    }

    /// The client's own address: what a trusted proxy says, else the peer's. A Unix socket's peer is always local,
    /// so its word counts as a trusted proxy's.
    fn client(&self, peer: Peer, head: &RequestHead<'_>) -> Option<IpAddr> {
        let says = head.headers_all("x-forwarded-for");
        match peer {
            Peer::Tcp(addr) => Some(http::client_address(addr.ip(), self.core.trusted_proxies(), says)),
            Peer::Unix => {
                let client = http::client_address(LOCAL, self.core.trusted_proxies_and_local(), says);
                (client != LOCAL).then_some(client)
            }
        }
    }
}

fn failed<S>() -> Upgrade<S> {
    Upgrade::Refuse(Response::text(500, FAILED))
}

/// What a stream begins with. Nobody on the way is to keep it, or to gather some of it before passing it on.
fn stream_head(headers: Vec<(String, String)>) -> Response {
    let head = Response::with_body(200, "text/event-stream", &[][..]).endless();
    let ours = [("Cache-Control", "no-store"), ("X-Accel-Buffering", "no")];
    let ours = ours.map(|(name, value)| (name.to_owned(), value.to_owned()));
    // What could not be written without changing what the answer says is left out.
    ours.into_iter().chain(headers).fold(head, |head, (name, value)| head.clone().header(name, value).unwrap_or(head))
}

const FAILED: &str = "The application failed.\n";

const ORIGIN_REFUSED: &str = "This page's origin may not open a connection here. The server's option --origin lists \
                              those that may.\n";

/// Heads of requests whose answer is deferred.
pub(super) type DeferredHeads = std::collections::HashMap<u32, Box<[u8]>>;
