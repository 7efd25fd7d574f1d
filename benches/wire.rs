//! What a client of topics costs beyond its frames: its token, each of its messages, and each publication once.
#![allow(missing_docs)]

use std::hint::black_box;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use corewire::auth::{KeyFormat, KeySet, Policy, UnixSeconds, Verifier};
use corewire::wire::{ClientMessage, Data, Message};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const NOW: UnixSeconds = UnixSeconds(1_800_000_000);
const SECRET: &[u8] = b"an example of a secret that is long enough";

fn token(algorithm: &str, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let header = format!(r#"{{"typ":"JWT","alg":"{algorithm}"}}"#);
    let claims = r#"{"sub":"ada","exp":1800000600,"subscribe":["prices:*","chat:**"],"publish":["chat:room1"]}"#;
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = URL_SAFE_NO_PAD.encode(sign(message.as_bytes()));
    format!("{message}.{signature}")
}

fn pem(key: &impl AsDer<aws_lc_rs::encoding::PublicKeyX509Der<'static>>) -> Vec<u8> {
    let der = key.as_der().expect("a key has an encoding");
    let text = STANDARD.encode(der.as_ref());
    format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n").into_bytes()
}

fn tokens(criterion: &mut Criterion) {
    let random = SystemRandom::new();
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).expect("a key");
    let p256 = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
    let ed25519 = Ed25519KeyPair::generate().expect("a key");
    let rs256 = |message: &[u8]| {
        let mut signature = vec![0; rsa.public_modulus_len()];
        rsa.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).expect("a signature");
        signature
    };
    let es256 = |message: &[u8]| p256.sign(&random, message).expect("a signature").as_ref().to_vec();
    let hs256 = |message: &[u8]| {
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, SECRET);
        aws_lc_rs::hmac::sign(&key, message).as_ref().to_vec()
    };
    let cases = [
        ("HS256", token("HS256", hs256), SECRET.to_vec(), KeyFormat::Secret),
        ("RS256", token("RS256", rs256), pem(rsa.public_key()), KeyFormat::Pem),
        ("ES256", token("ES256", es256), pem(p256.public_key()), KeyFormat::Pem),
        ("EdDSA", token("EdDSA", |m| ed25519.sign(m).as_ref().to_vec()), pem(ed25519.public_key()), KeyFormat::Pem),
    ];
    let mut group = criterion.benchmark_group("token");
    for (name, token, key, format) in cases {
        let keys = KeySet::from_text(name, &key, format).expect("a good key");
        let verifier = Verifier::new(keys, Policy::default());
        group.bench_function(name, |bencher| {
            bencher.iter(|| verifier.connection(black_box(&token), NOW).expect("a good token"));
        });
    }
    group.finish();
}

fn frames(criterion: &mut Criterion) {
    for len in [64, 1024, 16 << 10] {
        let data = format!("{{\"text\":\"{}\"}}", "lorem ipsum ".repeat(len / 12));
        let frame = format!(r#"{{"type":"publish","id":5,"topic":"chat:room1","data":{data}}}"#);
        let mut group = criterion.benchmark_group(format!("frame/{len}"));
        group.throughput(Throughput::Bytes(frame.len() as u64));
        group.bench_function("decode a publish", |bencher| {
            bencher.iter(|| ClientMessage::decode(black_box(&frame)).expect("a message").id());
        });
        group.bench_function("encode a message", |bencher| {
            let topic = "chat:room1".into();
            let message = Message { topic, offset: 42, key: None, user: None, data: Data::Json(&data) };
            bencher.iter(|| black_box(&message).encode());
        });
        group.finish();
    }
}

criterion_group!(benches, tokens, frames);
criterion_main!(benches);
