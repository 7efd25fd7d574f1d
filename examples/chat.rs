//! Chat rooms over all cores. The path is the room, the query the name.
//!
//! ```sh
//! cargo run --example chat
//! python3 -m websockets 'ws://127.0.0.1:9000/rust?name=ada'
//! ```
//!
//! Each core knows its own members of a room. A line goes to those, and to the other cores, which pass it on to theirs.
#![expect(clippy::print_stdout, reason = "whoever starts it wants to know where it listens")]

use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use corewire::handler::{Accept, Closed, Conn, ConnId, Core, Handler, Request, Upgrade};
use corewire::protocol::{Message, MessageKind};
use corewire::server::{Server, StartError};

#[derive(Default)]
struct Chat {
    rooms: HashMap<String, HashSet<ConnId>>,
}

struct Member {
    room: String,
    name: String,
}

/// A room, and what is said in it.
struct Line(String, String);

impl Chat {
    fn say(&self, core: &mut Core<'_>, room: &str, text: String) {
        let line = Line(room.to_owned(), text);
        self.pass_on(core, &line);
        // A core that has fallen too far behind misses the line; `mesh_refused_total` counts it.
        let _ = core.cast(Arc::new(line));
    }

    fn pass_on(&self, core: &mut Core<'_>, Line(room, text): &Line) {
        let members = self.rooms.get(room).into_iter().flatten().copied();
        core.send_to_all(members, MessageKind::Text, text.clone().into());
    }
}

impl Handler for Chat {
    type Session = Member;

    fn upgrade(&mut self, _: &mut Conn<'_>, request: &Request<'_>) -> Upgrade<Member> {
        let name = request.head().query_param("name").unwrap_or("somebody".into());
        Upgrade::Accept(Accept::new(Member { room: request.path().to_owned(), name: name.into_owned() }))
    }

    fn open(&mut self, conn: &mut Conn<'_>, member: &mut Member) {
        self.rooms.entry(member.room.clone()).or_default().insert(conn.id());
        self.say(conn, &member.room, format!("* {} has come", member.name));
    }

    fn message(&mut self, conn: &mut Conn<'_>, member: &mut Member, message: Message<'_>) {
        self.say(conn, &member.room, format!("{}: {}", member.name, message.text().unwrap_or("(bytes)")));
    }

    fn close(&mut self, core: &mut Core<'_>, id: ConnId, member: Member, _: &Closed) {
        self.rooms.entry(member.room.clone()).or_default().remove(&id);
        self.rooms.retain(|_, members| !members.is_empty());
        self.say(core, &member.room, format!("* {} has gone", member.name));
    }

    fn cast(&mut self, core: &mut Core<'_>, line: &(dyn Any + Send + Sync)) {
        self.pass_on(core, line.downcast_ref().expect("only lines are cast here"));
    }
}

fn main() -> Result<(), StartError> {
    let addr = "127.0.0.1:9000".parse().expect("an address and a port");
    let running = Server::builder().listen(addr).start(|_core| Chat::default())?;
    println!("listening on ws://{addr}/ROOM?name=NAME");
    running.wait()
}
