//! Server-Sent Events: bare data for `EventSource` and curl, and what was missed when they come back.
//!
//! The id of every event says where its client stands in all of its topics. For a client of one topic it is the same
//! as for all others of that topic, and so is the whole event. For one of several it is its own, and goes before data
//! that all of these share.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;

use super::access::{self, User};
use super::command::Arrival;
use super::raw;
use super::seats::Seat;
use super::url::Admitted;
use super::words::{from_wire, to_wire};
use crate::auth::UnixSeconds;
use crate::handler::{Body, CannotSubscribe, Conn, ConnId, Core, Delivery, Request, Wire};
use crate::protocol::MessageKind;
use crate::topics::{Begun, Recovery, Subject, Topic, Want};
use crate::wire;
use crate::wire::sse::{self, Positions};

/// A stream of one topic: its events are like those of all others.
pub(super) const ONE: Wire = Wire(2);
/// A stream of several topics or of patterns.
pub(super) const SEVERAL: Wire = Wire(3);

/// What is remembered of a client, if there is anything.
#[derive(Debug)]
pub(super) struct Client {
    /// What it wants to subscribe to: topics until they have begun, patterns until all topics have.
    awaited: Vec<Subject>,
    since: Since,
    user: Option<User>,
    valid_until: Option<UnixSeconds>,
    /// Where the connections from an address are limited.
    seat: Option<Box<Seat>>,
    arrival: Arrival,
}

/// Where a client says that it stands.
#[derive(Debug)]
enum Since {
    /// It is new.
    Nothing,
    /// It comes back.
    Positions(Positions),
    /// It comes back, and where it stood is not known.
    Unknown,
}

/// Where the clients of several topics stand.
#[derive(Debug, Default)]
pub(super) struct Streams(HashMap<ConnId, Positions>);

impl Client {
    /// What a request asks for.
    pub(super) fn new(arrival: Arrival, admitted: Admitted, seat: Option<Box<Seat>>, request: &Request<'_>) -> Self {
        let Admitted { subjects, user, valid_until } = admitted;
        let since = match request.head().header("last-event-id") {
            // Clients that have had no event may say so.
            None | Some(b"") => Since::Nothing,
            Some(id) => match std::str::from_utf8(id).map(Positions::parse) {
                Ok(Ok(positions)) => Since::Positions(positions),
                Ok(Err(_)) | Err(_) => Since::Unknown,
            },
        };
        Self { awaited: subjects.into_vec(), since, user, valid_until, seat, arrival }
    }

    /// Whether it is like all others, so that nothing need be kept.
    pub(super) fn is_forgettable(&self) -> bool {
        self.awaited.is_empty() && self.user.is_none() && self.valid_until.is_none() && self.seat.is_none()
    }

    /// Where it came from, and when.
    pub(super) fn arrival(&self) -> Arrival {
        self.arrival
    }

    /// A back end says until when it may stay. Answers whether it has a token at all.
    pub(super) fn expire_at(&mut self, at: UnixSeconds) -> bool {
        if self.user.is_some() || self.valid_until.is_some() {
            self.valid_until = Some(at);
        }
        self.valid_until.is_some()
    }

    pub(super) fn user(&self) -> Option<&User> {
        self.user.as_ref()
    }

    /// When its token expires.
    pub(super) fn valid_until(&self) -> Option<UnixSeconds> {
        self.valid_until
    }

    /// What the stream is sent for a publication. To be asked before anything has begun.
    pub(super) fn wire(&self) -> Wire {
        if let [Subject::Topic(_)] = &*self.awaited { ONE } else { SEVERAL }
    }

    /// This is awaited no more. Answers whether it was.
    fn forget(&mut self, name: &str) -> bool {
        let place = self.awaited.iter().position(|subject| access::name_of(subject) == name);
        place.map(|place| self.awaited.swap_remove(place)).is_some()
    }

    fn has_begun(&self) -> bool {
        !self.awaited.iter().any(|subject| matches!(subject, Subject::Topic(_)))
    }

    /// What is wanted of the past of a topic.
    fn want(&self, conn: &Conn<'_>, topic: &Topic) -> Want {
        let position = match &self.since {
            Since::Positions(positions) => positions.get(topic.as_str()),
            Since::Nothing | Since::Unknown => None,
        };
        match position {
            Some(position) => Want::Since(from_wire(position)),
            None => access::newcomers(conn.namespaces().of(topic)),
        }
    }

    /// All topics have begun. Now patterns do: what they bring of a topic that is still being recovered would have come
    /// too early.
    fn finish(&mut self, core: &mut Core<'_>, id: ConnId) {
        self.since = Since::Nothing;
        for subject in std::mem::take(&mut self.awaited) {
            if let Subject::Pattern(pattern) = subject {
                let subscribed = core.subscribe_conn_to_pattern(id, &pattern);
                debug_assert_ne!(subscribed, Err(CannotSubscribe::Already), "each stands there once");
            }
        }
    }
}

impl Streams {
    /// A stream is open.
    pub(super) fn open(&mut self, conn: &mut Conn<'_>, client: &mut Client) {
        let id = conn.id();
        send(conn, id, sse::opening(RETRY));
        let mut stands = Positions::default();
        for subject in &client.awaited {
            let Subject::Topic(topic) = subject else { continue };
            let want = client.want(conn, topic);
            let has_presence = conn.namespaces().of(topic).presence;
            let member = client.user.as_ref().filter(|_| has_presence).map(|user| &user.member);
            if let Want::Since(position) = want {
                // Until it is recovered, the ids of other topics say that this one is not.
                stands.set(topic.as_str(), to_wire(position));
            }
            let subscribed = conn.subscribe(topic, want, member);
            debug_assert_ne!(subscribed, Err(CannotSubscribe::Already), "each stands there once");
        }
        if client.wire() == SEVERAL {
            self.0.insert(id, stands);
        }
        if client.has_begun() {
            client.finish(conn, id);
        }
    }

    /// A subscription has begun.
    pub(super) fn subscribed(
        &mut self,
        conn: &mut Conn<'_>,
        client: &mut Client,
        subject: &Subject,
        begun: &Begun<'_>,
    ) {
        let (Subject::Topic(topic), Some(mut position)) = (subject, begun.position) else { return };
        if let Some(first) = begun.publications.first() {
            position.offset = first.offset - 1;
        }
        let is_gap = match &client.since {
            Since::Nothing => false,
            Since::Positions(_) | Since::Unknown => begun.recovery != Recovery::Recovered,
        };
        client.forget(topic.as_str());
        let (id, is_last) = (conn.id(), client.has_begun());
        let mut event = Vec::new();
        self.write_id(id, topic, to_wire(position), true, &mut event);
        if is_gap {
            event.extend(sse::gap(topic.as_str()));
            send(conn, id, event);
        } else if is_last {
            // An id without data tells no event, and is kept all the same.
            event.push(b'\n');
            send(conn, id, event);
        }
        if is_last {
            client.finish(conn, id);
        }
    }

    /// A back end has ended this topic or pattern. Answers whether the client was still waiting for it; if nothing else
    /// kept its patterns waiting, they begin.
    pub(super) fn give_up(&mut self, core: &mut Core<'_>, id: ConnId, client: &mut Client, name: &str) -> bool {
        let had_begun = client.has_begun();
        let was_awaited = client.forget(name);
        if !had_begun && client.has_begun() {
            // Where it stands in the topics that are left, if there are any.
            let positions = self.0.get(&id).filter(|positions| !positions.is_empty());
            if let Some(positions) = positions {
                let mut event = Vec::new();
                sse::write_id(&mut event, positions);
                event.push(b'\n');
                send(core, id, event);
            }
            client.finish(core, id);
        }
        was_awaited
    }

    /// What goes before a publication in this stream alone.
    pub(super) fn preface(&mut self, to: ConnId, delivery: &Delivery<'_>, out: &mut Vec<u8>) {
        self.write_id(to, delivery.topic, position_of(delivery), false, out);
    }

    /// Something was lost that cannot be recovered.
    pub(super) fn tell_gap(&mut self, core: &mut Core<'_>, topic: &Topic, position: wire::Position, to: &[ConnId]) {
        for &id in to {
            if matches!(core.wire_of(id), Some(ONE | SEVERAL)) {
                let mut event = Vec::new();
                self.write_id(id, topic, position, false, &mut event);
                event.extend(sse::gap(topic.as_str()));
                send(core, id, event);
            }
        }
    }

    /// It is over.
    pub(super) fn remove(&mut self, id: ConnId) {
        self.0.remove(&id);
    }

    /// The id of the client's next event, now that it stands at `position` in `topic`. What it hears by a pattern has
    /// no place in the id, unless the topic `is_named` for the first time.
    fn write_id(&mut self, id: ConnId, topic: &Topic, position: wire::Position, is_named: bool, out: &mut Vec<u8>) {
        let name = topic.as_str();
        match self.0.get_mut(&id) {
            Some(positions) => {
                if is_named || positions.get(name).is_some() {
                    positions.set(name, position);
                }
                sse::write_id(out, positions);
            }
            None => sse::write_id(out, &Positions::one(name, position)),
        }
    }
}

/// A publication as the streams of this wire get it; those of several topics get their own id before it. Bytes have no
/// form here.
pub(super) fn encode(wire: Wire, delivery: &Delivery<'_>) -> Option<(MessageKind, Bytes)> {
    let (MessageKind::Text, text) = raw::encode(delivery) else { return None };
    let mut event = Vec::new();
    if wire == ONE {
        sse::write_id(&mut event, &Positions::one(delivery.topic.as_str(), position_of(delivery)));
    }
    event.extend(sse::data(std::str::from_utf8(&text).ok()?));
    Some((MessageKind::Text, event.into()))
}

/// A full queue closes the stream by the handler's policy; there is nobody else to tell.
fn send(core: &mut Core<'_>, id: ConnId, event: Vec<u8>) {
    let _ = core.send_to(id, MessageKind::Text, Body::Shared(event.into()));
}

fn position_of(delivery: &Delivery<'_>) -> wire::Position {
    wire::Position { epoch: wire::Epoch(delivery.epoch.number()), offset: delivery.publication.offset }
}

/// How long clients wait before they come back.
const RETRY: Duration = Duration::from_secs(3);
