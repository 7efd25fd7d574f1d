//! Commands to cores of `corewire serve`, and cores that are kept from doing anything.

use std::sync::{Arc, Mutex, mpsc};

use corewire::builtin::{Act, Command, Outcome, Who};
use corewire::server::Handle;
use corewire::topics::{Topic, home_of};

use super::PATIENCE;

/// A core that does nothing until this is dropped.
pub struct Held {
    _until: mpsc::Sender<()>,
}

/// Has a core do something with all of its connections, and waits for what it says.
pub fn command(handle: &Handle, core: usize, act: Act) -> Outcome {
    let (done, outcome) = mpsc::channel();
    let answer = move |outcome| done.send(outcome).expect("somebody waits for it");
    handle.cast(core, Arc::new(to_all(act, answer))).expect("there is room");
    outcome.recv_timeout(PATIENCE).expect("the core comes to it")
}

/// From now on the core does nothing: it is busy with the answer to a command.
pub fn hold(handle: &Handle, core: usize) -> Held {
    let (entered, is_in) = mpsc::channel();
    let (until, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let answer = move |_| {
        entered.send(()).expect("somebody waits for it");
        let _ = released.lock().expect("only once").recv();
    };
    handle.cast(core, Arc::new(to_all(Act::List { most: 1 }, answer))).expect("there is room");
    is_in.recv_timeout(PATIENCE).expect("the core comes to it");
    Held { _until: until }
}

/// A topic of which one of two cores is the home; its name begins like this.
pub fn at_home_on(core: usize, start: &str) -> String {
    let mut names = (0..).map(|n| format!("{start}{n}"));
    names.find(|name| home_of(&Topic::parse(name).expect("a good name"), 2) == core).expect("hashes differ")
}

fn to_all(act: Act, answer: impl Fn(Outcome) + Send + Sync + 'static) -> Command {
    Command { who: Who::All, act, from: 0, answer: Box::new(answer) }
}
