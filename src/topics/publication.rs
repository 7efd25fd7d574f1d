//! What is published.

use std::sync::Arc;

use bytes::Bytes;

/// What a publication's bytes are. Topics do not look into them; wires do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DataKind {
    /// The text of a JSON value.
    Json,
    /// UTF-8 text.
    Text,
    /// Bytes.
    Binary,
}

/// What somebody wants to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// What `data` is.
    pub kind: DataKind,
    /// The content.
    pub data: Bytes,
    /// What it is the newest value of, for subscribers that want only the newest of each; the topic itself if `None`.
    pub key: Option<Arc<str>>,
    /// Who has published it, where subscribers are to know.
    pub publisher: Option<Arc<str>>,
}

/// A draft that its topic's home has given a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// Its place in the topic's order, counted from one, without gaps.
    pub offset: u64,
    /// The content.
    pub draft: Draft,
}

impl Draft {
    /// Bytes of content and key.
    pub fn bytes(&self) -> usize {
        self.data.len() + self.key.as_ref().map_or(0, |key| key.len())
    }

    /// A copy that shares no memory: a reference count that two cores touch would cost both at every subscriber.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self {
            kind: self.kind,
            data: Bytes::copy_from_slice(&self.data),
            key: copied(&self.key),
            publisher: copied(&self.publisher),
        }
    }
}

impl Publication {
    /// As [`Draft::detached`].
    #[must_use]
    pub fn detached(&self) -> Self {
        Self { offset: self.offset, draft: self.draft.detached() }
    }
}

fn copied(text: &Option<Arc<str>>) -> Option<Arc<str>> {
    text.as_deref().map(Arc::from)
}
