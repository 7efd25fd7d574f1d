//! What cores and other threads say to a core.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::handler::{Busy, Remote, Told};
use crate::mesh::{Full, Outside};
use crate::protocol::MessageKind;
use crate::topics::{Namespaces, Party, ToCore, ToHome};

/// One item in a core's mailbox.
pub enum Envelope {
    /// A message for every open WebSocket of the core. The payload is a copy of its own: a reference count that
    /// two cores touch would cost both at every subscriber.
    Broadcast {
        /// Text or binary.
        kind: MessageKind,
        /// The message.
        payload: Bytes,
    },
    /// A value for the core's handler.
    Cast(Arc<dyn Any + Send + Sync>),
    /// Another thread wants something of a connection.
    Told(AboutConnection),
    /// Something about topics, from another core or from a thread that is none.
    Topics {
        /// Who says it.
        from: Party,
        /// What. Boxed, so that an envelope stays small.
        message: Box<AboutTopics>,
    },
    /// How topics behave from now on.
    Configure(Arc<Namespaces>),
    /// What new connections speak TLS with from now on.
    #[cfg(feature = "tls")]
    Tls(crate::tls::ServerTls),
    /// Say on `/readyz` that no more connections are wanted; still take those that come.
    NotReady,
    /// Refuse what is new, and close everything within this time.
    Drain(Duration),
    /// Stop listening: empty the accept queues first.
    CloseListeners,
    /// Drop everything and end.
    Stop,
}

/// What cores say to each other about topics.
pub enum AboutTopics {
    /// To the core as the home of a topic.
    ToHome(ToHome),
    /// To the core as one that may have subscribers.
    ToCore(ToCore),
}

/// What another thread wants of one connection.
pub struct AboutConnection(pub(super) Told);

impl Remote for Outside<Envelope> {
    fn tell(&self, told: Told) -> Result<(), Busy> {
        self.send(Envelope::Told(AboutConnection(told))).map_err(|Full(_)| Busy)
    }
}
