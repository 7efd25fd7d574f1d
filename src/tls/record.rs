//! Record headers (RFC 8446 §5.1): where the whole records of an input end, and what is no record at all.

/// Largest record on the wire, in bytes: header, payload and the growth that encryption may add (RFC 8446 §5.2).
///
/// A receive buffer of this size always holds at least one whole record. TLS 1.2 allows 2,048 bytes of growth
/// (RFC 5246 §6.2.3), but no cipher suite that is offered here adds more than 24.
pub const RECORD_BYTES_MAX: usize = HEADER_LEN + PLAINTEXT_LEN_MAX + GROWTH_LEN_MAX;

/// Largest plaintext of one record, in bytes (RFC 8446 §5.1).
pub(super) const PLAINTEXT_LEN_MAX: usize = 1 << 14;

/// Content type, version and length.
const HEADER_LEN: usize = 5;
const GROWTH_LEN_MAX: usize = 256;

/// What is wrong with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadHeader {
    /// Not the header of any TLS record: unknown content type or version (RFC 8446 §5.1).
    NotTls,
    /// More than [`RECORD_BYTES_MAX`] announced; `record_len` in bytes, header included (RFC 8446 §5.2).
    TooLong { record_len: usize },
}

/// Length in bytes of the first record, header included; `None` while it is not there whole.
///
/// A bad header fails as soon as it is there, without waiting for what it announces.
pub(super) fn first_len(input: &[u8]) -> Result<Option<usize>, BadHeader> {
    let Some(&[content_type, major, _, high, low]) = input.first_chunk::<HEADER_LEN>() else {
        return Ok(None);
    };
    if !CONTENT_TYPES.contains(&content_type) || major != VERSION_MAJOR {
        return Err(BadHeader::NotTls);
    }
    let record_len = HEADER_LEN + usize::from(u16::from_be_bytes([high, low]));
    if record_len > RECORD_BYTES_MAX {
        return Err(BadHeader::TooLong { record_len });
    }
    Ok((record_len <= input.len()).then_some(record_len))
}

/// The whole records at the front of `input`: their length in bytes, and the fault in the header after them.
pub(super) fn whole_len(input: &[u8]) -> (usize, Option<BadHeader>) {
    let mut len = 0;
    loop {
        match first_len(&input[len..]) {
            Ok(Some(record_len)) => len += record_len,
            Ok(None) => return (len, None),
            Err(fault) => return (len, Some(fault)),
        }
    }
}

/// Whether a stream that begins like this is HTTP without TLS: a request, or a reply to one.
pub(super) fn looks_like_http(first: &[u8]) -> bool {
    HTTP_STARTS.iter().any(|start| first.starts_with(start))
}

/// change_cipher_spec, alert, handshake, application_data (RFC 8446 §5.1).
const CONTENT_TYPES: [u8; 4] = [20, 21, 22, 23];
/// Of every version from SSL 3.0 to TLS 1.3, on the wire.
const VERSION_MAJOR: u8 = 3;

/// No TLS record begins with a capital letter: see [`CONTENT_TYPES`].
const HTTP_STARTS: [&[u8]; 11] = [
    b"GET ",
    b"HEAD ",
    b"POST ",
    b"PUT ",
    b"DELETE ",
    b"CONNECT ",
    b"OPTIONS ",
    b"TRACE ",
    b"PATCH ",
    b"PRI * ",
    b"HTTP/",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn record(payload_len: u16) -> Vec<u8> {
        let [high, low] = payload_len.to_be_bytes();
        let mut wire = vec![23, 3, 3, high, low];
        wire.resize(HEADER_LEN + usize::from(payload_len), 0);
        wire
    }

    #[test]
    fn whole_records_are_counted_at_every_cut() {
        let wire = [record(3), record(0), record(7)].concat();
        let ends = [0, 8, 13, 25];
        for cut in 0..=wire.len() {
            let want = ends.into_iter().rfind(|&end| end <= cut);
            let (got, fault) = whole_len(&wire[..cut]);
            assert_eq!((Some(got), fault), (want, None), "cut at {cut}");
        }
    }

    #[test]
    fn a_length_over_the_limit_fails_at_the_header() {
        let payload_len_max = PLAINTEXT_LEN_MAX + GROWTH_LEN_MAX;
        for payload_len in 0..=u16::MAX {
            let [high, low] = payload_len.to_be_bytes();
            let fails = first_len(&[23, 3, 3, high, low]).is_err();
            assert_eq!(fails, usize::from(payload_len) > payload_len_max, "{payload_len}");
        }
    }

    #[test]
    fn every_content_type_is_known_or_refused() {
        let known = (0..=255).filter(|&content_type| first_len(&[content_type, 3, 1, 0, 0]).is_ok());
        assert!(known.eq([20, 21, 22, 23]));
    }

    #[test]
    fn a_fault_is_found_behind_whole_records() {
        let wire = [record(3), vec![b'G', 3, 3, 0, 0]].concat();
        assert_eq!(whole_len(&wire), (8, Some(BadHeader::NotTls)));
    }

    #[test]
    fn http_is_recognised_and_tls_is_not_http() {
        for start in HTTP_STARTS {
            assert!(looks_like_http(start));
            assert!(!looks_like_http(&start[..start.len() - 1]));
        }
        for content_type in CONTENT_TYPES {
            assert!(!looks_like_http(&[content_type, 3, 1, 0, 200, 1]));
        }
    }
}
