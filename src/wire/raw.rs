//! Bare data, for clients that can only open a URL.

use std::borrow::Cow;

use super::server::Data;

/// What raw clients and SSE get: a string as it is, without quotation marks and escapes, anything else as JSON.
///
/// The same for all of them: make it once.
pub fn bare(data: Data<'_>) -> Cow<'_, str> {
    match data {
        Data::Text(text) => text.into(),
        Data::Json(json) if json.starts_with('"') => match serde_json::from_str(json) {
            Ok(text) => Cow::Owned(text),
            // Half a character has no bare form. No frame brings it here; another door may have been less strict.
            Err(_) => json.into(),
        },
        Data::Json(json) => json.into(),
    }
}

/// What a raw client publishes with a text message: always a string, so that raw subscribers get exactly its bytes.
pub fn data_from_raw(text: &str) -> Data<'_> {
    Data::Text(text)
}
