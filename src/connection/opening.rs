//! Before a connection is a WebSocket: the request head arrives, and somebody decides (RFC 6455 §4.2).

use super::extra::{self, Extra};
use super::input::Input;
use super::tick::Tick;
use super::workspace::Workspace;
use crate::http::{self, HeadError, HeadLimits, HeadScratch, Parsed};
use crate::protocol::Payload;

/// A peer that has not been accepted yet.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) give_up_at: Tick,
    pub(super) phase: Phase,
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The peer's: its request head is not complete.
    Reading,
    /// The application's: it has deferred its answer, and what the peer sends meanwhile waits.
    Deciding,
}

impl Opening {
    /// A head, complete or hopeless. Consumes no byte behind it.
    pub(super) fn poll<'i>(
        &mut self,
        slot: &mut Option<Box<Extra>>,
        input: &mut Input<'i>,
        workspace: &mut Workspace,
    ) -> Option<Result<Payload<'i>, HeadError>> {
        if self.phase == Phase::Deciding || input.is_empty() {
            return None;
        }
        let limits =
            HeadLimits { bytes_max: workspace.limits.header_bytes_max, headers_max: workspace.limits.headers_max };
        let kept_len = slot.as_ref().map_or(0, |extra| extra.waiting.len());
        if kept_len == 0 {
            return match find_end(input.bytes(), limits) {
                Ok(Some(len)) => Some(Ok(Payload::Borrowed(input.take(len)))),
                Ok(None) => {
                    let head = input.take_all();
                    extra::ensure(slot, workspace).waiting.extend_from_slice(head);
                    None
                }
                Err(error) => Some(Err(error)),
            };
        }
        let kept = &mut extra::ensure(slot, workspace).waiting;
        kept.extend_from_slice(input.bytes());
        // A head ends with a line end, and grows too large at any byte: nothing else needs another look at all of it.
        if !input.bytes().contains(&b'\n') && kept.len() <= limits.bytes_max {
            input.take_all();
            return None;
        }
        match find_end(kept, limits) {
            Ok(Some(len)) => {
                input.take(len - kept_len);
                kept.truncate(len);
                Some(Ok(Payload::Owned(std::mem::take(kept))))
            }
            Ok(None) => {
                input.take_all();
                None
            }
            Err(error) => Some(Err(error)),
        }
    }
}

/// Where the head ends, if it does.
fn find_end(bytes: &[u8], limits: HeadLimits) -> Result<Option<usize>, HeadError> {
    match http::parse_request(bytes, limits, &mut HeadScratch::new())? {
        Parsed::Complete { len, .. } => Ok(Some(len)),
        Parsed::Incomplete => Ok(None),
    }
}
