//! All keys of a server, and which of them a token may be checked with.

use super::key::{Algorithm, Key};
use super::key_error::KeyError;
use super::key_file::{KeyFile, KeyFormat, KeyText};
use super::token_error::TokenError;

/// The keys that tokens are checked with, at least one and at most [`KEYS_MAX`]. Never changes; a reload makes
/// another.
pub struct KeySet {
    keys: Vec<Key>,
}

impl KeySet {
    /// The keys of all `files` together.
    ///
    /// # Errors
    ///
    /// A [`KeyError`] that names the file and the line or field. Nothing is taken from the other files then.
    pub fn from_files(files: &[KeyFile]) -> Result<Self, KeyError> {
        let mut set = Self { keys: Vec::new() };
        for file in files {
            set.add(&KeyText::read(file)?, file.format)?;
        }
        set.unless_empty("the list of key files")
    }

    /// From memory; errors call it by `name`.
    ///
    /// # Errors
    ///
    /// As [`KeySet::from_files`].
    pub fn from_text(name: &str, text: &[u8], format: KeyFormat) -> Result<Self, KeyError> {
        let mut set = Self { keys: Vec::new() };
        set.add(&KeyText { file: name.to_owned(), text: text.into() }, format)?;
        set.unless_empty(name)
    }

    /// How many there are, and for what, as `("key-1", RS256)`: for a log line.
    pub fn describe(&self) -> impl Iterator<Item = (Option<&str>, Algorithm)> {
        self.keys.iter().map(|key| (key.id.as_deref(), key.algorithm))
    }

    /// Keys that may have signed a token with this header: those of its `kid`, or else those without any.
    ///
    /// A token without a `kid` is tried with all keys of its algorithm.
    pub(super) fn candidates(
        &self,
        algorithm: Algorithm,
        key_id: Option<&str>,
    ) -> Result<impl Iterator<Item = &Key>, TokenError> {
        let named = move |key: &&Key| key_id.is_some() && key.id.as_deref() == key_id;
        let by_name = self.keys.iter().any(|key| named(&key));
        let fits = move |key: &&Key| if by_name { named(key) } else { key_id.is_none() || key.id.is_none() };
        if !self.keys.iter().any(|key| fits(&key)) {
            return Err(TokenError::UnknownKeyId);
        }
        let found = move |key: &&Key| fits(key) && key.algorithm == algorithm;
        if !self.keys.iter().any(|key| found(&key)) {
            return Err(TokenError::NoKeyForAlgorithm);
        }
        Ok(self.keys.iter().filter(found))
    }

    fn add(&mut self, text: &KeyText<'_>, format: KeyFormat) -> Result<(), KeyError> {
        for key in text.keys(format)? {
            let same = |other: &Key| key.id.is_some() && other.id == key.id && other.algorithm == key.algorithm;
            if self.keys.iter().any(same) {
                return Err(KeyError::SameKeyId { file: text.file.clone(), algorithm: key.algorithm });
            }
            if self.keys.len() == KEYS_MAX {
                return Err(KeyError::TooManyKeys { file: text.file.clone() });
            }
            self.keys.push(key);
        }
        Ok(())
    }

    fn unless_empty(self, name: &str) -> Result<Self, KeyError> {
        if self.keys.is_empty() { Err(KeyError::NoKey { file: name.to_owned() }) } else { Ok(self) }
    }
}

impl std::fmt::Debug for KeySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.describe()).finish()
    }
}

/// Most keys of one server. A rotation has two or three; each may cost a token without a `kid` one check.
pub const KEYS_MAX: usize = 32;
