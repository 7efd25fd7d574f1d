//! `corewire serve`: the broadcast server with a page to try it.

use crate::handler::{Accept, Conn, Core, Handler, Request, Upgrade};
use crate::http::Response;
use crate::protocol::Message;

use super::Broadcast;

/// Sends every message to everybody, and shows a page on which two browser tabs can chat.
#[derive(Debug, Default)]
pub struct Serve {
    broadcast: Broadcast,
}

impl Handler for Serve {
    type Session = ();

    fn upgrade(&mut self, _: &mut Conn<'_>, _: &Request<'_>) -> Upgrade<()> {
        Upgrade::Accept(Accept::new(()))
    }

    fn message(&mut self, conn: &mut Conn<'_>, session: &mut (), message: Message<'_>) {
        self.broadcast.message(conn, session, message);
    }

    fn request(&mut self, _: &mut Core<'_>, request: &Request<'_>) -> Response {
        let response = match request.path() {
            "/" => Response::with_body(200, "text/html; charset=utf-8", PAGE.as_bytes()),
            _ => Response::text(404, NOT_FOUND),
        };
        if request.head().method() == "HEAD" { response.without_body() } else { response }
    }
}

const PAGE: &str = include_str!("demo.html");

const NOT_FOUND: &str = "There is nothing here. The page to try this server is at /, its health at /healthz and \
                         /readyz; WebSocket clients may use any path. If a WebSocket client sent this request, a \
                         proxy in between has dropped the Upgrade header field.\n";
