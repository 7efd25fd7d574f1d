//! Asks a back end who may do what, and brings its verdicts to where they are waited for.
//!
//! Every question is answered: by the back end, or by [`Denied::Unavailable`] when its time is over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::figures::ProxyFigures;
use super::http::{PostError, Poster};
use super::verdict::{self, BadAnswer};
use super::{ProxyOptions, SetupError};
use crate::backend::{Decider, Denied, Overloaded, Question, Verdict, WhoAsks};

/// The cores' end.
pub(super) struct Desk {
    figures: Arc<ProxyFigures>,
    /// Bounds the questions that are not answered yet, and with them the channel.
    places: Arc<Semaphore>,
    questions: UnboundedSender<Asked>,
}

/// A question on its way.
struct Asked {
    question: Question,
    asks: WhoAsks,
    /// Given back when it is answered.
    place: OwnedSemaphorePermit,
}

/// The other end.
pub(super) struct Proxy {
    asker: watch::Receiver<Arc<Asker>>,
    questions: UnboundedReceiver<Asked>,
}

/// Who sends questions, and how.
pub(super) struct Asker {
    poster: Poster,
    /// Requests at a time.
    requests: Semaphore,
    timeout: Duration,
    figures: Arc<ProxyFigures>,
    told_at: std::sync::Mutex<Option<Instant>>,
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
enum NoVerdict {
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    #[error(transparent)]
    Post(#[from] PostError),
    #[error(transparent)]
    Answer(#[from] BadAnswer),
}

impl Decider for Desk {
    fn decide(&self, question: Question, asks: WhoAsks) -> Result<(), Overloaded> {
        let asked = Arc::clone(&self.places).try_acquire_owned().map_err(|_| Overloaded);
        let asked = asked.and_then(|place| {
            self.figures.asked.add(1);
            self.questions.send(Asked { question, asks, place }).map_err(|_| Overloaded)
        });
        if asked.is_err() {
            self.figures.overloaded.add(1);
        }
        asked
    }
}

impl Proxy {
    /// Both ends. Each question goes out by the newest `asker`.
    pub(super) fn new(asker: watch::Receiver<Arc<Asker>>, figures: Arc<ProxyFigures>) -> (Desk, Self) {
        let (sender, questions) = mpsc::unbounded_channel();
        let places = Arc::new(Semaphore::new(QUESTIONS_MAX));
        (Desk { figures, places, questions: sender }, Self { asker, questions })
    }

    /// Asks and answers for as long as it is polled.
    pub(super) async fn run(mut self) {
        while let Some(asked) = self.questions.recv().await {
            let asker = Arc::clone(&self.asker.borrow());
            tokio::spawn(answer(asker, asked));
        }
    }
}

async fn answer(asker: Arc<Asker>, asked: Asked) {
    let Asked { question, asks, place } = asked;
    let verdict = asker.ask(&question).await;
    match asks {
        WhoAsks::Upgrade(deferred) => {
            if deferred.answer(verdict).is_err() {
                tracing::warn!("a core is too busy for the connect proxy's verdict; the client will be refused");
            }
        }
        WhoAsks::Connection(connection) => {
            let verdict = Arc::new(verdict);
            // The connection waits, so this must arrive; a core empties its mailbox in its next turn.
            while connection.tell(verdict.clone()).is_err() {
                tokio::time::sleep(BUSY_PAUSE).await;
            }
        }
    }
    drop(place);
}

impl Asker {
    /// # Errors
    ///
    /// If the URL cannot be reached from this system.
    pub(super) fn new(options: &ProxyOptions, figures: Arc<ProxyFigures>) -> Result<Self, SetupError> {
        Ok(Self {
            poster: Poster::new(options.endpoint.clone(), options.secret.clone(), options.timeout)?,
            requests: Semaphore::new(options.requests),
            timeout: options.timeout,
            figures,
            told_at: std::sync::Mutex::new(None),
        })
    }

    /// The same with other options, for questions that come from now on.
    pub(super) fn renewed(&self, options: &ProxyOptions) -> Result<Self, SetupError> {
        Self::new(options, self.figures.clone())
    }

    async fn ask(&self, question: &Question) -> Verdict {
        let body = verdict::encode(question).into();
        let asking = async {
            let _request = self.requests.acquire().await;
            Ok::<Verdict, NoVerdict>(verdict::decode(question, &self.poster.post(body).await?)?)
        };
        // The time runs from the question, not from the request: somebody waits.
        let outcome = tokio::time::timeout(self.timeout, asking).await;
        match outcome.unwrap_or(Err(NoVerdict::TimedOut(self.timeout))) {
            Ok(verdict) => {
                match verdict {
                    Ok(_) => self.figures.allowed.add(1),
                    Err(_) => self.figures.denied.add(1),
                }
                verdict
            }
            Err(error) => {
                self.figures.failed.add(1);
                self.complain(&error);
                Err(Denied::Unavailable)
            }
        }
    }

    /// Each failure is counted, and one in a while logged.
    fn complain(&self, error: &NoVerdict) {
        let now = Instant::now();
        let Ok(mut told_at) = self.told_at.lock() else { return };
        if told_at.is_none_or(|told_at| now - told_at >= LOG_PAUSE) {
            *told_at = Some(now);
            let url = self.poster.endpoint().without_query();
            tracing::warn!(url, %error, "the connect proxy gave no verdict; who asked is refused");
        }
    }
}

/// Questions that may wait for an answer: more than clients that come back at once after a restart, mostly.
const QUESTIONS_MAX: usize = 16_384;
const BUSY_PAUSE: Duration = Duration::from_millis(2);
const LOG_PAUSE: Duration = Duration::from_secs(5);
