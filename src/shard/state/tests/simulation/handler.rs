//! `corewire serve`, listened to, and with members: who connects to `/member` is present in a topic as long as it stays.

use std::any::Any;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use super::truth::Truth;
use crate::builtin::Serve;
use crate::handler::{
    Accept, Closed, Conn, ConnId, Core, Delivery, Handler, Overflow, Request, TopicNews, Unanswered, Upgrade, Wire,
};
use crate::http::Response;
use crate::protocol::{Message, MessageKind};
use crate::topics::{Answer, Begun, Member, Refused, Subject, Ticket, Topic, Want};

pub(super) struct Watched {
    serve: Serve,
    truth: Rc<RefCell<Truth>>,
    pub(super) opened: u64,
    pub(super) closed: u64,
}

pub(super) enum Session {
    Serve(<Serve as Handler>::Session),
    Member(Topic, Member),
}

const MEMBER: Wire = Wire(77);

impl Session {
    fn of(upgrade: Upgrade<<Serve as Handler>::Session>) -> Upgrade<Self> {
        match upgrade {
            Upgrade::Accept(Accept { session, wire, subprotocol, headers }) => {
                Upgrade::Accept(Accept { session: Self::Serve(session), wire, subprotocol, headers })
            }
            Upgrade::Refuse(response) => Upgrade::Refuse(response),
            Upgrade::Defer => Upgrade::Defer,
        }
    }
}

impl Watched {
    pub(super) fn new(truth: Rc<RefCell<Truth>>) -> Self {
        Self { serve: Serve::new(true), truth, opened: 0, closed: 0 }
    }

    fn member(request: &Request<'_>) -> Option<Session> {
        let value = |name: &str| {
            let found = request.head().query_params().find(|(key, _)| key == name);
            found.map(|(_, value)| value.into_owned())
        };
        let topic = Topic::parse(&value("topic")?).ok()?;
        let member = Member { user: value("user")?.into(), info: Bytes::from_static(b"{}") };
        Some(Session::Member(topic, member))
    }
}

impl Handler for Watched {
    type Session = Session;

    fn upgrade(&mut self, conn: &mut Conn<'_>, request: &Request<'_>) -> Upgrade<Session> {
        if request.path() == "/member" {
            let session = Self::member(request).expect("a topic and a user");
            return Upgrade::Accept(Accept::new(session).wire(MEMBER));
        }
        Session::of(self.serve.upgrade(conn, request))
    }

    fn stream(&mut self, conn: &mut Conn<'_>, request: &Request<'_>) -> Option<Upgrade<Session>> {
        self.serve.stream(conn, request).map(Session::of)
    }

    fn open(&mut self, conn: &mut Conn<'_>, session: &mut Session) {
        self.opened += 1;
        match session {
            Session::Serve(session) => self.serve.open(conn, session),
            Session::Member(topic, member) => conn.subscribe(topic, Want::Nothing, Some(member)).expect("it is new"),
        }
    }

    fn message(&mut self, conn: &mut Conn<'_>, session: &mut Session, message: Message<'_>) {
        if let Session::Serve(session) = session {
            self.serve.message(conn, session, message);
        }
    }

    /// Whatever is heard by anybody comes by here.
    fn encode(&mut self, wire: Wire, delivery: &Delivery<'_>) -> Option<(MessageKind, Bytes)> {
        let (topic, publication) = (delivery.topic.as_str(), delivery.publication);
        let mut truth = self.truth.borrow_mut();
        let number = truth.number_of(std::str::from_utf8(&publication.draft.data).expect("it was text"));
        truth.place(number, topic, delivery.epoch.number(), publication.offset);
        drop(truth);
        if wire == MEMBER { None } else { self.serve.encode(wire, delivery) }
    }

    fn preface(&mut self, wire: Wire, to: ConnId, delivery: &Delivery<'_>, out: &mut Vec<u8>) {
        self.serve.preface(wire, to, delivery, out);
    }

    fn subscribed(&mut self, conn: &mut Conn<'_>, session: &mut Session, subject: &Subject, begun: &Begun<'_>) {
        if let Session::Serve(session) = session {
            self.serve.subscribed(conn, session, subject, begun);
        }
    }

    fn not_subscribed(&mut self, conn: &mut Conn<'_>, session: &mut Session, topic: &Topic, refused: Refused) {
        if let Session::Serve(session) = session {
            self.serve.not_subscribed(conn, session, topic, refused);
        }
    }

    fn topic_news(&mut self, core: &mut Core<'_>, topic: &Topic, news: TopicNews<'_>, to: &[ConnId]) {
        let served: Vec<_> = to.iter().copied().filter(|&id| core.wire_of(id) != Some(MEMBER)).collect();
        self.serve.topic_news(core, topic, news, &served);
    }

    fn answered(&mut self, core: &mut Core<'_>, ticket: Ticket, answer: Result<Answer, Unanswered>) {
        self.serve.answered(core, ticket, answer);
    }

    fn cast(&mut self, core: &mut Core<'_>, message: &(dyn Any + Send + Sync)) {
        self.serve.cast(core, message);
    }

    fn close(&mut self, core: &mut Core<'_>, id: ConnId, session: Session, closed: &Closed) {
        self.closed += 1;
        if let Session::Serve(session) = session {
            self.serve.close(core, id, session, closed);
        }
    }

    fn request(&mut self, core: &mut Core<'_>, request: &Request<'_>) -> Response {
        self.serve.request(core, request)
    }

    fn tick_interval(&self) -> Option<Duration> {
        self.serve.tick_interval()
    }

    fn tick(&mut self, core: &mut Core<'_>) {
        self.serve.tick(core);
    }

    fn overflow(&self) -> Overflow {
        self.serve.overflow()
    }
}
