//! Keys of back ends: secrets that are compared, not computed with.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use thiserror::Error;

/// The API keys of a server, at least one.
///
/// It holds digests, and compares digests: neither contents nor length of a key show in the time that it takes.
#[derive(Clone)]
pub struct ApiKeys(Box<[[u8; SHA256_OUTPUT_LEN]]>);

impl ApiKeys {
    /// A single key.
    ///
    /// # Errors
    ///
    /// [`ApiKeyError::TooShort`] or [`ApiKeyError::NotVisibleAscii`].
    pub fn one(key: &str) -> Result<Self, ApiKeyError> {
        Ok(Self(Box::new([accepted(key.as_bytes(), "the API key")?])))
    }

    /// One key per line of `text`; empty lines and those that begin with `#` do not count. Errors call it by `name`.
    ///
    /// Several, so that back ends can change from one to the next while both hold.
    ///
    /// # Errors
    ///
    /// An [`ApiKeyError`] that names the line. Read the file again later and put the result in this one's place; if
    /// that fails, this one remains as good as it was.
    pub fn from_lines(name: &str, text: &[u8]) -> Result<Self, ApiKeyError> {
        let lines = text.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii).enumerate();
        let keys = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with(b"#"));
        let accepted = keys.map(|(index, line)| accepted(line, &format!("{name}, line {}", index + 1)));
        let digests = accepted.collect::<Result<Vec<_>, _>>()?;
        if digests.is_empty() { Err(ApiKeyError::None { place: name.to_owned() }) } else { Ok(Self(digests.into())) }
    }

    /// Those of both.
    #[must_use]
    pub fn and(self, others: Self) -> Self {
        Self(self.0.into_iter().chain(others.0).collect())
    }

    /// Whether `given` is one of them. Takes the same time whichever it is, or none.
    pub fn contain(&self, given: &[u8]) -> bool {
        let given = sha256(given);
        self.0.iter().fold(false, |found, key| found | verify_slices_are_equal(key, &given).is_ok())
    }
}

impl std::fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ApiKeys({})", self.0.len())
    }
}

/// Why an API key cannot be used. Never holds the key.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ApiKeyError {
    /// It could be guessed.
    #[error("{place}: an API key needs at least {API_KEY_BYTES_MIN} bytes, this has {bytes} (`openssl rand -hex 24`)")]
    TooShort {
        /// File and line, or what else it is.
        place: String,
        /// Its length.
        bytes: usize,
    },
    /// It could not stand in a header (RFC 9110 §5.5).
    #[error("{place}: an API key may have letters, digits and signs of ASCII only, without white space")]
    NotVisibleAscii {
        /// File and line, or what else it is.
        place: String,
    },
    /// The file has no line with a key.
    #[error("{place} holds no API key: one per line is expected")]
    None {
        /// The file.
        place: String,
    },
}

fn accepted(key: &[u8], place: &str) -> Result<[u8; SHA256_OUTPUT_LEN], ApiKeyError> {
    if key.len() < API_KEY_BYTES_MIN {
        Err(ApiKeyError::TooShort { place: place.to_owned(), bytes: key.len() })
    } else if !key.iter().all(u8::is_ascii_graphic) {
        Err(ApiKeyError::NotVisibleAscii { place: place.to_owned() })
    } else {
        Ok(sha256(key))
    }
}

fn sha256(bytes: &[u8]) -> [u8; SHA256_OUTPUT_LEN] {
    let mut output = [0; SHA256_OUTPUT_LEN];
    output.copy_from_slice(digest(&SHA256, bytes).as_ref());
    output
}

/// Shortest API key in bytes.
pub const API_KEY_BYTES_MIN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef";

    #[test]
    fn only_the_whole_key_is_contained() {
        let keys = ApiKeys::one(KEY).unwrap();
        assert!(keys.contain(KEY.as_bytes()));
        for cut in 0..KEY.len() {
            assert!(!keys.contain(&KEY.as_bytes()[..cut]), "{cut}");
            let mut other = KEY.as_bytes().to_vec();
            other[cut] ^= 1;
            assert!(!keys.contain(&other), "{cut}");
        }
        assert!(!keys.contain(format!("{KEY}0").as_bytes()));
    }

    #[test]
    fn a_file_has_one_key_per_line() {
        let text = b"# old\n0123456789abcdef\r\n\n  # new\n  fedcba9876543210  \n";
        let keys = ApiKeys::from_lines("keys", text).unwrap();
        assert!(keys.contain(b"0123456789abcdef") && keys.contain(b"fedcba9876543210"));
        assert!(!keys.contain(b"") && !keys.contain(b"# old"));
        assert_eq!(format!("{keys:?}"), "ApiKeys(2)");
    }

    #[test]
    fn bad_files_are_refused_by_line_and_without_the_key() {
        let place = |place: &str| place.to_owned();
        let cases: [(&[u8], _); 5] = [
            (b"", ApiKeyError::None { place: place("keys") }),
            (b"# none\n", ApiKeyError::None { place: place("keys") }),
            (b"0123456789abcdef\n\nshort\n", ApiKeyError::TooShort { place: place("keys, line 3"), bytes: 5 }),
            (b"0123456789 abcdef", ApiKeyError::NotVisibleAscii { place: place("keys, line 1") }),
            (b"0123456789abcdef\xff", ApiKeyError::NotVisibleAscii { place: place("keys, line 1") }),
        ];
        for (text, want) in cases {
            let error = ApiKeys::from_lines("keys", text).unwrap_err();
            assert_eq!(error, want);
            assert!(!error.to_string().contains("short") && !error.to_string().contains("abcdef"), "{error}");
        }
        let error = ApiKeys::one("short").unwrap_err();
        assert_eq!(error, ApiKeyError::TooShort { place: "the API key".to_owned(), bytes: 5 });
    }
}
