//! From requests on the admin thread to questions to cores, and from their answers back.
//!
//! A core never waits for this side: it puts an answer into a bounded channel, or forgets it. This side waits for an
//! answer, and for room in a core's mailbox, until the time of the request is over; then it names the core.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout_at};

use super::error::{ApiError, ErrorCode};
use crate::handler::Busy;
use crate::server::{Handle, Outside};
use crate::topics::{Answer, Ticket, Topic, home_of};

/// The cores' end: give it to [`Builder::outside`](crate::server::Builder::outside).
#[derive(Clone, Debug)]
pub struct Answers(mpsc::Sender<(Ticket, Answer)>);

/// The other end, for [`ApiOptions`](super::ApiOptions).
#[derive(Debug)]
pub struct AnswersInbox(mpsc::Receiver<(Ticket, Answer)>);

/// The two ends of the way of answers.
pub fn answers() -> (Answers, AnswersInbox) {
    // Each question has one answer, and those that nobody waits for any more are taken out quickly.
    let (sender, receiver) = mpsc::channel(2 * QUESTIONS_MAX);
    (Answers(sender), AnswersInbox(receiver))
}

impl Outside for Answers {
    fn answered(&self, ticket: Ticket, answer: Answer) {
        if self.0.try_send((ticket, answer)).is_err() {
            tracing::debug!("an answer to the HTTP API was lost: there was no room for it");
        }
    }
}

/// Asks cores.
#[derive(Clone)]
pub(super) struct Bridge {
    handle: Handle,
    waiting: Arc<Waiting>,
    seats: Arc<Semaphore>,
    /// For all questions of one request together.
    wait: Duration,
}

/// Questions that wait for an answer. Only the admin thread touches it, so it is never waited for.
#[derive(Default)]
struct Waiting(Mutex<Questions>);

#[derive(Default)]
struct Questions {
    last: u64,
    open: HashMap<Ticket, (oneshot::Sender<Answer>, OwnedSemaphorePermit)>,
}

/// The time by which a request must be answered: [`Bridge::give_up_at`].
#[derive(Clone, Copy, Debug)]
pub(super) struct GiveUpAt(Instant);

impl GiveUpAt {
    /// For a request that begins now.
    pub(super) fn within(wait: Duration) -> Self {
        Self(Instant::now() + wait)
    }
}

/// A question that was asked. Dropping it forgets the question.
pub(super) struct Asked {
    waiting: Arc<Waiting>,
    ticket: Ticket,
    answer: oneshot::Receiver<Answer>,
    core: usize,
    give_up_at: GiveUpAt,
}

impl Bridge {
    /// Takes answers in from now on.
    pub(super) fn start(handle: Handle, AnswersInbox(mut inbox): AnswersInbox, wait: Duration) -> Self {
        let waiting = Arc::new(Waiting::default());
        let there = waiting.clone();
        tokio::spawn(async move {
            while let Some((ticket, answer)) = inbox.recv().await {
                if let Some((question, _seat)) = there.lock().open.remove(&ticket) {
                    // Whoever asked may just have given up.
                    let _ = question.send(answer);
                }
            }
        });
        Self { handle, waiting, seats: Arc::new(Semaphore::new(QUESTIONS_MAX)), wait }
    }

    /// For a request that begins now.
    pub(super) fn give_up_at(&self) -> GiveUpAt {
        GiveUpAt::within(self.wait)
    }

    /// Asks the home of a topic by `send`, which may be called several times until there is room.
    pub(super) async fn ask(
        &self,
        topic: &Topic,
        give_up_at: GiveUpAt,
        send: impl Fn(&Handle, Ticket) -> Result<(), Busy>,
    ) -> Result<Asked, ApiError> {
        self.ask_core(home_of(topic, self.handle.core_count()), give_up_at, send).await
    }

    /// As [`Bridge::ask`], of this core as the home of all its topics.
    pub(super) async fn ask_core(
        &self,
        core: usize,
        give_up_at: GiveUpAt,
        send: impl Fn(&Handle, Ticket) -> Result<(), Busy>,
    ) -> Result<Asked, ApiError> {
        let seat = match timeout_at(give_up_at.0, self.seats.clone().acquire_owned()).await {
            Ok(Ok(seat)) => seat,
            Ok(Err(_)) | Err(_) => return Err(unavailable("too many questions wait for their answers")),
        };
        let (answered, answer) = oneshot::channel();
        let ticket = {
            let mut questions = self.waiting.lock();
            questions.last += 1;
            let ticket = Ticket(questions.last);
            questions.open.insert(ticket, (answered, seat));
            ticket
        };
        let asked = Asked { waiting: self.waiting.clone(), ticket, answer, core, give_up_at };
        patiently(core, give_up_at, || send(&self.handle, ticket)).await?;
        Ok(asked)
    }

    /// Gives a core's handler something, as soon as there is room.
    pub(super) async fn cast(
        &self,
        core: usize,
        give_up_at: GiveUpAt,
        message: Arc<dyn Any + Send + Sync>,
    ) -> Result<(), ApiError> {
        patiently(core, give_up_at, || self.handle.cast(core, message.clone())).await
    }

    pub(super) fn core_count(&self) -> usize {
        self.handle.core_count()
    }
}

impl Asked {
    /// Waits for the answer.
    pub(super) async fn answer(mut self) -> Result<Answer, ApiError> {
        match timeout_at(self.give_up_at.0, &mut self.answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) | Err(_) => Err(silent(self.core)),
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.waiting.lock().open.remove(&self.ticket);
    }
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, Questions> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for an answer on a channel of its own, as [`Asked::answer`] does; `None` if the core is silent.
pub(super) async fn reply<T>(receiver: oneshot::Receiver<T>, give_up_at: GiveUpAt) -> Option<T> {
    timeout_at(give_up_at.0, receiver).await.ok()?.ok()
}

/// Sends again while the core's mailbox is full.
async fn patiently(core: usize, GiveUpAt(at): GiveUpAt, send: impl Fn() -> Result<(), Busy>) -> Result<(), ApiError> {
    while send().is_err() {
        if Instant::now() >= at {
            return Err(unavailable(format!("the mailbox of core {core} is full; nothing was done")));
        }
        sleep(MAILBOX_PAUSE).await;
    }
    Ok(())
}

fn unavailable(message: impl Into<std::borrow::Cow<'static, str>>) -> ApiError {
    ApiError::new(ErrorCode::Unavailable, message)
}

/// The core that should have answered did not.
fn silent(core: usize) -> ApiError {
    let message = format!("core {core} did not answer in time; whether it has done it is not known");
    ApiError::new(ErrorCode::Timeout, message)
}

/// Most questions at a time, of all requests together.
const QUESTIONS_MAX: usize = 4096;
/// A core empties its mailbox in each turn.
const MAILBOX_PAUSE: Duration = Duration::from_millis(1);
