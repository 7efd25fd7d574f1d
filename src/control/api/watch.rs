//! Asks all homes what is published, for the page that shows it.

use std::time::Duration;

use super::Api;
use super::bridge::GiveUpAt;
use crate::topics::{Answer, Watch, Watched};

impl Api {
    /// What each core has answered; `None` of one that did not in time.
    pub(in super::super) async fn watch(&self, watch: &Watch) -> Vec<Option<Watched>> {
        let give_up_at = GiveUpAt::within(WAIT);
        let mut asked = Vec::new();
        // All of them first, so that they answer at the same time.
        for core in 0..self.bridge.core_count() {
            let send = |handle: &crate::server::Handle, ticket| handle.watch(core, watch.clone(), ticket);
            asked.push(self.bridge.ask_core(core, give_up_at, send).await.ok());
        }
        let mut answers = Vec::new();
        for question in asked {
            let answer = match question {
                Some(question) => question.answer().await.ok(),
                None => None,
            };
            answers.push(match answer {
                Some(Answer::Watched(watched)) => Some(*watched),
                _ => None,
            });
        }
        answers
    }
}

/// The page asks again soon.
const WAIT: Duration = Duration::from_secs(1);
