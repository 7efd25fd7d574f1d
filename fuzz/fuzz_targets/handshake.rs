//! Any bytes as a request head, as an answer and as an extension list: no panic, and one verdict however they are cut.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};

use corewire::http::{
    Cidr, HeadError, HeadLimits, HeadScratch, Parsed, RequestHead, client_address, parse_request,
};
use corewire::protocol::deflate::{self, Agreement, DeflateOptions, NegotiationError};
use corewire::protocol::handshake::{
    ClientHandshake, OriginPolicy, ResponseProgress, UpgradeRequest, check_upgrade, write_accept,
};
use libfuzzer_sys::fuzz_target;

const LIMITS: HeadLimits = HeadLimits {
    bytes_max: 2048,
    headers_max: 20,
};

fuzz_target!(|data: &[u8]| {
    as_request(data);
    as_answer(data);
    if let Ok(text) = std::str::from_utf8(data) {
        as_extension_list(text);
        if let Ok(network) = text.parse::<Cidr>() {
            assert_eq!(network.to_string().parse(), Ok(network));
        }
    }
});

fn as_request(data: &[u8]) {
    let whole = verdict(data);
    for cut in 0..data.len().min(LIMITS.bytes_max) {
        let got = verdict(&data[..cut]);
        assert!(
            got == Ok(None) || got == whole,
            "cut at {cut}: {got:?}, whole {whole:?}"
        );
    }
    let mut scratch = HeadScratch::new();
    if let Ok(Parsed::Complete { head, len }) = parse_request(data, LIMITS, &mut scratch) {
        assert!(len <= LIMITS.bytes_max && len <= data.len());
        read_all(&head);
        match check_upgrade(&head) {
            Ok(request) => answer(&request),
            Err(refusal) => refusal.response().write_to(&mut Vec::new()),
        }
    }
}

fn verdict(data: &[u8]) -> Result<Option<usize>, HeadError> {
    let mut scratch = HeadScratch::new();
    Ok(match parse_request(data, LIMITS, &mut scratch)? {
        Parsed::Incomplete => None,
        Parsed::Complete { len, .. } => Some(len),
    })
}

fn read_all(head: &RequestHead<'_>) {
    assert!(!head.path().contains('?'));
    assert!(head.version_minor() == 0 || head.host().is_some());
    head.query_params().for_each(drop);
    let trusted = ["0.0.0.0/1".parse().unwrap()];
    client_address(
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        &trusted,
        head.headers_all("x-forwarded-for"),
    );
    OriginPolicy::SameHost.allows(head.header_str("origin"), head.host());
}

/// Whatever we accept, our answer is a head that our own client can read.
fn answer(request: &UpgradeRequest<'_>) {
    let agreement = request.agree_on_deflate(&DeflateOptions::default());
    let mut out = Vec::new();
    write_accept(
        &mut out,
        &request.accept_key(),
        request.protocols().next(),
        agreement.as_ref(),
        &[],
    );
    let answer = handshake().check_response(&out);
    assert_ne!(answer, Ok(ResponseProgress::Incomplete));
}

fn as_answer(data: &[u8]) {
    let handshake = handshake();
    let whole = handshake.check_response(data);
    for cut in 0..data.len().min(256) {
        let got = handshake.check_response(&data[..cut]);
        assert!(
            got == Ok(ResponseProgress::Incomplete) || got == whole,
            "cut at {cut}: {got:?}, whole {whole:?}"
        );
    }
}

fn handshake() -> ClientHandshake {
    let offer = Some(DeflateOptions::default());
    ClientHandshake::new(
        "a.example",
        "/",
        *b"the sample nonce",
        vec!["chat".into()],
        offer,
        vec![],
    )
    .unwrap()
}

/// What we answer to an offer keeps to the grammar, says what we think it says, and names nothing twice.
fn as_extension_list(text: &str) {
    let open = DeflateOptions {
        server_no_context_takeover: false,
        client_no_context_takeover: false,
        server_max_window_bits: 15,
        client_max_window_bits: 15,
    };
    let _ = deflate::check_answer([text], Some(&open));
    let Some(agreement) = deflate::accept_offer([text], &open) else {
        return;
    };
    let mut answer = Vec::new();
    deflate::write_answer(&agreement, &mut answer);
    let answer = String::from_utf8(answer).unwrap();
    match deflate::check_answer([answer.as_str()], Some(&open)) {
        Ok(Some(read)) => {
            assert_eq!(
                read,
                Agreement {
                    server_window_was_offered: false,
                    ..agreement
                }
            );
        }
        Err(NegotiationError::WindowUnsupported) => assert_eq!(agreement.client_max_window_bits, 8),
        other => panic!("{text:?} answered {answer:?} read as {other:?}"),
    }
}
