//! Chat rooms as topics. The path is the room, the query the name.
//!
//! ```sh
//! cargo run --example topics
//! python3 -m websockets 'ws://127.0.0.1:9000/rust?name=ada'
//! ```
//! `/who` lists who is there, `/history` what was said. Rooms span all cores, in one order for everybody.
#![expect(clippy::print_stdout, reason = "whoever starts it wants to know where it listens")]

use std::collections::HashMap;

use corewire::handler::{Accept, Conn, ConnId, Core, Handler, Request, TopicNews, Unanswered, Upgrade};
use corewire::protocol::{Message, MessageKind};
use corewire::server::{Server, StartError};
use corewire::topics::{
    Answer, DataKind, Draft, Member, Namespace, Namespaces, PresenceChange, Read, Ticket, Topic, Want,
};

#[derive(Default)]
struct Rooms {
    asked: HashMap<Ticket, ConnId>,
}

impl Handler for Rooms {
    type Session = (Topic, Member);

    fn upgrade(&mut self, _: &mut Conn<'_>, request: &Request<'_>) -> Upgrade<(Topic, Member)> {
        let name = request.head().query_param("name").unwrap_or("somebody".into());
        match Topic::parse(request.path().trim_start_matches('/')) {
            Ok(room) => Upgrade::Accept(Accept::new((room, Member { user: name.into(), info: "{}".into() }))),
            Err(error) => Upgrade::Refuse(corewire::http::Response::text(400, format!("{error}\n"))),
        }
    }

    fn open(&mut self, conn: &mut Conn<'_>, (room, member): &mut (Topic, Member)) {
        conn.subscribe(room, Want::Last, Some(member)).expect("it has just opened");
    }

    fn message(&mut self, conn: &mut Conn<'_>, (room, member): &mut (Topic, Member), message: Message<'_>) {
        let asked = match message.text().unwrap_or_default() {
            "/who" => conn.read(room, Read::Members).map(Some),
            "/history" => conn.read(room, Read::History { since: None, limit: 20 }).map(Some),
            text => {
                let data = format!("{}: {text}", member.user).into();
                conn.publish(room, Draft { kind: DataKind::Text, data, key: None, publisher: None }).map(|()| None)
            }
        };
        match asked {
            Ok(ticket) => self.asked.extend(ticket.map(|ticket| (ticket, conn.id()))),
            Err(refused) => drop(conn.send_text(&format!("* {refused}"))),
        }
    }

    fn topic_news(&mut self, core: &mut Core<'_>, _: &Topic, news: TopicNews<'_>, to: &[ConnId]) {
        let TopicNews::Presence(change) = news else { return };
        let line = match change {
            PresenceChange::Joined(member) => format!("* {} has come", member.user),
            PresenceChange::Left(user) => format!("* {user} has gone"),
        };
        core.send_to_all(to.iter().copied(), MessageKind::Text, line.into());
    }

    fn answered(&mut self, core: &mut Core<'_>, ticket: Ticket, answer: Result<Answer, Unanswered>) {
        let line = match answer {
            Ok(Answer::Members(members)) => members.iter().fold("*".to_owned(), |all, of| all + " " + &of.member.user),
            Ok(Answer::History { publications, .. }) => {
                publications.iter().map(|said| format!("{}\n", String::from_utf8_lossy(&said.draft.data))).collect()
            }
            other => format!("* {other:?}"),
        };
        core.send_to_all(self.asked.remove(&ticket), MessageKind::Text, line.into());
    }
}

fn main() -> Result<(), StartError> {
    let rooms = Namespaces::new(Namespace { presence: true, ..Namespace::default() }, []).expect("there is only one");
    println!("listening on ws://127.0.0.1:9000/ROOM?name=NAME");
    Server::builder().listen(([127, 0, 0, 1], 9000).into()).namespaces(rooms).run(|_core| Rooms::default())
}
