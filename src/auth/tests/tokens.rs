//! Every token that is good, and every way to be wrong.

use std::time::Duration;

use super::*;
use crate::auth::{Part, TOKEN_BYTES_MAX, TokenError};

fn verdict(claims: &Value) -> Result<(), TokenError> {
    let signer = Signer::new(Algorithm::Hs256);
    signer.verifier().connection(&signer.token(None, claims), NOW).map(drop)
}

#[test]
fn each_algorithm_is_read_from_each_kind_of_file() {
    for algorithm in Algorithm::ALL {
        let signer = Signer::new(algorithm);
        for kid in [None, Some("k1")] {
            let token = signer.token(kid, &ada());
            let by_jwks = Verifier::new(jwks(&[signer.jwk(Some("k1"))]), Policy::default());
            for verifier in [signer.verifier(), by_jwks] {
                let identity = verifier.connection(&token, NOW).unwrap();
                assert_eq!(&*identity.user, "ada", "{algorithm}");
                assert_eq!(identity.valid_until, Some(UnixSeconds(NOW.0 + 630)), "{algorithm}");
            }
        }
    }
}

/// RFC 7515 appendix A.1 and A.3, RFC 8037 appendix A.4: others' signatures, others' keys.
#[test]
fn signatures_of_the_rfcs_are_accepted() {
    let hs256 = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    let es256 = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    let eddsa = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    let keys = jwks(&[
        json!({ "kty": "oct", "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow" }),
        json!({ "kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0" }),
        json!({ "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" }),
    ]);
    let verifier = Verifier::new(keys, Policy::default());
    let now = UnixSeconds(1_300_819_380 - 1);
    // Their claims are no user's; the signature's verdict comes before that.
    for token in [hs256, es256] {
        assert_eq!(verifier.connection(token, now), Err(TokenError::ClaimMissing { claim: "sub" }));
        let altered = token.replace(".ey", ".eY");
        assert_eq!(verifier.connection(&altered, now), Err(TokenError::BadSignature));
    }
    assert_eq!(verifier.connection(eddsa, now), Err(TokenError::NotJson(Part::Claims)));
    assert_eq!(verifier.connection(&eddsa.replace(".RX", ".Rx"), now), Err(TokenError::BadSignature));
}

#[test]
fn unsigned_tokens_are_refused_however_they_spell_it() {
    let claims = ada().to_string();
    for algorithm in Algorithm::ALL {
        let verifier = Signer::new(algorithm).verifier();
        for none in ["none", "None", "NONE", "nOnE"] {
            let header = json!({ "typ": "JWT", "alg": none }).to_string();
            for signature in ["", "AAAA"] {
                let token = format!("{}.{}.{signature}", base64url(&header), base64url(&claims));
                assert_eq!(verifier.connection(&token, NOW), Err(TokenError::Unsigned), "{none}");
            }
        }
    }
}

/// RFC 8725 §2.1: the public key is public, so as a secret it is nobody's.
#[test]
fn a_public_key_is_no_secret() {
    for algorithm in [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa] {
        let signer = Signer::new(algorithm);
        let (file, _) = signer.key_file();
        for secret in [file.clone(), file.trim_ascii().to_vec(), signer.public_der()] {
            let forged = Signer::Hs256(secret).token(None, &ada());
            assert_eq!(signer.verifier().connection(&forged, NOW), Err(TokenError::NoKeyForAlgorithm));
            // With a real secret beside it, the forgery is measured against that one only.
            let both = jwks(&[signer.jwk(None), Signer::new(Algorithm::Hs256).jwk(None)]);
            let both = Verifier::new(both, Policy::default());
            assert_eq!(both.connection(&forged, NOW), Err(TokenError::BadSignature));
        }
    }
}

#[test]
fn a_token_cannot_choose_another_algorithm_for_a_key() {
    let signers = Algorithm::ALL.map(Signer::new);
    for signer in &signers {
        for claimed in Algorithm::ALL.iter().filter(|&&claimed| claimed != signer.algorithm()) {
            let header = json!({ "alg": claimed.name() }).to_string();
            let token = signer.token_of(&header, &ada().to_string());
            assert_eq!(signer.verifier().connection(&token, NOW), Err(TokenError::NoKeyForAlgorithm));
            let all = jwks(&signers.each_ref().map(|signer| signer.jwk(None)));
            let all = Verifier::new(all, Policy::default());
            assert_eq!(all.connection(&token, NOW), Err(TokenError::BadSignature), "{claimed}");
        }
        for unsupported in ["HS384", "HS512", "RS384", "RS512", "PS256", "ES384", "ES512", "ES256K", "", "hs256"] {
            let token = signer.token_of(&json!({ "alg": unsupported }).to_string(), &ada().to_string());
            let got = signer.verifier().connection(&token, NOW);
            assert_eq!(got, Err(TokenError::AlgorithmUnsupported), "{unsupported}");
        }
    }
}

#[test]
fn another_key_of_the_same_algorithm_is_refused() {
    for algorithm in Algorithm::ALL {
        let other = match algorithm {
            Algorithm::Hs256 => Signer::Hs256(vec![7; 32]),
            Algorithm::Rs256 | Algorithm::Es256 | Algorithm::EdDsa => Signer::new(algorithm),
        };
        let token = other.token(None, &ada());
        assert_eq!(Signer::new(algorithm).verifier().connection(&token, NOW), Err(TokenError::BadSignature));
    }
}

#[test]
fn every_altered_byte_is_noticed() {
    for algorithm in Algorithm::ALL {
        let signer = Signer::new(algorithm);
        let verifier = signer.verifier();
        let token = signer.token(None, &ada());
        for at in 0..token.len() {
            let mut altered = token.clone().into_bytes();
            altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
            let altered = String::from_utf8(altered).unwrap();
            assert!(verifier.connection(&altered, NOW).is_err(), "{algorithm}: byte {at} of {token}");
        }
    }
}

#[test]
fn every_cut_is_refused() {
    for algorithm in Algorithm::ALL {
        let signer = Signer::new(algorithm);
        let verifier = signer.verifier();
        let token = signer.token(None, &ada());
        let dots: Vec<_> = token.match_indices('.').map(|(at, _)| at).collect();
        for cut in 0..token.len() {
            let got = verifier.connection(&token[..cut], NOW).unwrap_err();
            if cut <= dots[1] {
                assert_eq!(got, TokenError::NotThreeParts, "{algorithm}, cut at {cut}");
            } else {
                let want = [TokenError::NotBase64(Part::Signature), TokenError::BadSignature];
                assert!(want.contains(&got), "{algorithm}, cut at {cut}: {got}");
            }
            assert!(verifier.connection(&token[cut + 1..], NOW).is_err(), "{algorithm}, cut until {cut}");
        }
    }
}

#[test]
fn malformed_parts_are_named() {
    let signer = Signer::new(Algorithm::Hs256);
    let good = signer.token(None, &ada());
    let parts: Vec<_> = good.split('.').collect();
    let [header, claims, signature] = parts[..] else { panic!("three parts") };
    let signed = |header: &str, claims: &str| signer.token_of(header, claims);
    let alg = r#"{"alg":"HS256"}"#;
    let cases = [
        (String::new(), TokenError::NotThreeParts),
        ("..".to_owned(), TokenError::NotJson(Part::Header)),
        ("a.b".to_owned(), TokenError::NotThreeParts),
        (format!("{good}.{signature}"), TokenError::NotThreeParts),
        (format!("{header}!.{claims}.{signature}"), TokenError::NotBase64(Part::Header)),
        (format!("{header}.{claims}=.{signature}"), TokenError::NotBase64(Part::Claims)),
        (format!("{header}.{claims}.{signature}="), TokenError::NotBase64(Part::Signature)),
        (format!(" {good}"), TokenError::NotBase64(Part::Header)),
        (format!("{good}\n"), TokenError::NotBase64(Part::Signature)),
        (format!("{header}.ü.{signature}"), TokenError::NotBase64(Part::Claims)),
        (format!("{header}.{claims}."), TokenError::BadSignature),
        (format!("{header}..{signature}"), TokenError::BadSignature),
        (signed("", "{}"), TokenError::NotJson(Part::Header)),
        (signed("{", "{}"), TokenError::NotJson(Part::Header)),
        (signed("[]", "{}"), TokenError::NotJson(Part::Header)),
        (signed("{}", "{}"), TokenError::NotJson(Part::Header)),
        (signed(r#"{"alg":5}"#, "{}"), TokenError::NotJson(Part::Header)),
        (signed(r#"{"alg":"HS256","alg":"none"}"#, "{}"), TokenError::NotJson(Part::Header)),
        (signed(r#"{"alg":"HS256","kid":5}"#, "{}"), TokenError::NotJson(Part::Header)),
        (signed(r#"{"alg":"HS256","crit":["b64"],"b64":false}"#, "{}"), TokenError::CriticalHeader),
        (signed(r#"{"alg":"HS256","crit":[]}"#, "{}"), TokenError::CriticalHeader),
        (signed(alg, ""), TokenError::NotJson(Part::Claims)),
        (signed(alg, "5"), TokenError::NotJson(Part::Claims)),
        (signed(alg, r#"["ada"]"#), TokenError::NotJson(Part::Claims)),
        (signed(alg, r#"[1900000000,0,null,null,"ada",null,null,null,null]"#), TokenError::NotJson(Part::Claims)),
        (signed(alg, r#"{"sub":"ada","exp":1900000000,"sub":"eve"}"#), TokenError::NotJson(Part::Claims)),
        (signed(alg, r#"{"sub":"ada","exp":1900000000}x"#), TokenError::NotJson(Part::Claims)),
        (signed(alg, &"[".repeat(5000)), TokenError::NotJson(Part::Claims)),
    ];
    for (token, want) in cases {
        assert_eq!(signer.verifier().connection(&token, NOW), Err(want), "{token}");
    }
}

#[test]
fn a_huge_token_is_not_read() {
    let signer = Signer::new(Algorithm::Hs256);
    let padded = |bytes: usize| signer.token(None, &with(ada(), json!({ "padding": "x".repeat(bytes) })));
    let fits = (0..TOKEN_BYTES_MAX).rev().step_by(10).map(padded).find(|token| token.len() <= TOKEN_BYTES_MAX).unwrap();
    assert!(signer.verifier().connection(&fits, NOW).is_ok());
    for bytes in [TOKEN_BYTES_MAX + 1, 100_000_000] {
        let huge = "x".repeat(bytes);
        assert_eq!(signer.verifier().connection(&huge, NOW), Err(TokenError::TooLong { bytes }));
    }
}

#[test]
fn expiry_and_beginning_with_leeway() {
    let (exp, nbf) = (NOW.0 + 100, NOW.0);
    let claims = with(ada(), json!({ "exp": exp, "nbf": nbf }));
    let signer = Signer::new(Algorithm::Hs256);
    let token = signer.token(None, &claims);
    for leeway in [0, 30] {
        let verifier = signer.verifier_with(Policy { leeway: Duration::from_secs(leeway), ..Policy::default() });
        let at = |now: u64| verifier.connection(&token, UnixSeconds(now)).map(|identity| identity.valid_until);
        let good = Ok(Some(UnixSeconds(exp + leeway)));
        assert_eq!(at(nbf - leeway - 1), Err(TokenError::NotYetValid { seconds: leeway + 1 }));
        assert_eq!(at(nbf - leeway), good);
        assert_eq!(at(exp + leeway - 1), good);
        assert_eq!(at(exp + leeway), Err(TokenError::Expired { seconds: leeway }));
        assert_eq!(at(u64::MAX), Err(TokenError::Expired { seconds: u64::MAX - exp }));
        assert_eq!(at(0), Err(TokenError::NotYetValid { seconds: nbf }));
    }
    assert!(TokenError::Expired { seconds: 1 }.is_expiry() && !TokenError::BadSignature.is_expiry());
}

#[test]
fn times_that_are_no_times() {
    let exp = TokenError::ClaimMalformed { claim: "exp", expected: "a number of seconds since 1970" };
    let nbf = TokenError::ClaimMalformed { claim: "nbf", expected: "a number of seconds since 1970" };
    for wrong in [json!("1900000000"), json!(-1), json!(true)] {
        assert_eq!(verdict(&with(ada(), json!({ "exp": wrong }))), Err(exp), "{wrong}");
        assert_eq!(verdict(&with(ada(), json!({ "nbf": wrong }))), Err(nbf), "{wrong}");
    }
    let signer = Signer::new(Algorithm::Hs256);
    let of = |claims: &str| signer.verifier().connection(&signer.token_of(r#"{"alg":"HS256"}"#, claims), NOW);
    assert_eq!(of(r#"{"sub":"ada","exp":1e999}"#), Err(exp));
    assert_eq!(of(r#"{"sub":"ada","exp":[1900000000]}"#), Err(TokenError::NotJson(Part::Claims)));
    let far = of(r#"{"sub":"ada","exp":1e300}"#).unwrap();
    assert_eq!(far.valid_until, Some(UnixSeconds(u64::MAX)));
    let parted = of(&format!(r#"{{"sub":"ada","exp":{}.9}}"#, NOW.0 + 5)).unwrap();
    assert_eq!(parted.valid_until, Some(UnixSeconds(NOW.0 + 35)));
    assert_eq!(of(r#"{"sub":"ada"}"#), Err(TokenError::ClaimMissing { claim: "exp" }));
    assert_eq!(of(r#"{"sub":"ada","exp":null}"#), Err(TokenError::ClaimMissing { claim: "exp" }));

    let lenient = signer.verifier_with(Policy { expiry_required: false, ..Policy::default() });
    let endless = signer.token(None, &json!({ "sub": "ada" }));
    assert_eq!(lenient.connection(&endless, NOW).unwrap().valid_until, None);
}

#[test]
fn audiences_and_issuers() {
    let signer = Signer::new(Algorithm::Hs256);
    let ours = || vec!["corewire".to_owned(), "prices".to_owned()];
    let strict = signer.verifier_with(Policy { audiences: ours(), issuers: ours(), ..Policy::default() });
    let get =
        |verifier: &Verifier, changes| verifier.connection(&signer.token(None, &with(ada(), changes)), NOW).map(drop);
    let not_text = TokenError::ClaimMalformed { claim: "aud", expected: "a string or an array of strings" };
    let cases = [
        (json!({ "iss": "prices", "aud": "corewire" }), Ok(())),
        (json!({ "iss": "prices", "aud": ["other", "prices"] }), Ok(())),
        (json!({ "iss": "prices" }), Err(TokenError::ClaimMissing { claim: "aud" })),
        (json!({ "iss": "prices", "aud": "other" }), Err(TokenError::OtherAudience)),
        (json!({ "iss": "prices", "aud": "Corewire" }), Err(TokenError::OtherAudience)),
        (json!({ "iss": "prices", "aud": [] }), Err(TokenError::OtherAudience)),
        (json!({ "iss": "prices", "aud": ["other", "another"] }), Err(TokenError::OtherAudience)),
        (json!({ "iss": "prices", "aud": 5 }), Err(not_text)),
        (json!({ "aud": "corewire" }), Err(TokenError::ClaimMissing { claim: "iss" })),
        (json!({ "iss": "eve", "aud": "corewire" }), Err(TokenError::OtherIssuer)),
    ];
    for (changes, want) in cases {
        assert_eq!(get(&strict, changes.clone()), want, "{changes}");
    }
    let open = signer.verifier();
    assert_eq!(get(&open, json!({ "iss": "anybody" })), Ok(()));
    assert_eq!(get(&open, json!({ "aud": "other" })), Err(TokenError::OtherAudience));
}

#[test]
fn users_topics_and_info() {
    let signer = Signer::new(Algorithm::Hs256);
    let changes = json!({ "subscribe": ["prices:*", "chat:**"], "publish": ["chat:a"], "info": { "name": "Ada" } });
    let identity = signer.verifier().connection(&signer.token(None, &with(ada(), changes)), NOW).unwrap();
    assert!(identity.subscribe.allow("prices:eur") && identity.subscribe.allow("chat:a:b"));
    assert!(!identity.subscribe.allow("other") && !identity.subscribe.allow("**"));
    assert!(identity.publish.allow("chat:a") && !identity.publish.allow("prices:eur"));
    assert_eq!(identity.info.as_deref(), Some(r#"{"name":"Ada"}"#));

    let identity = signer.verifier().connection(&signer.token(None, &ada()), NOW).unwrap();
    assert!(!identity.subscribe.allow("chat:a") && !identity.publish.allow("chat:a"));

    let sub = TokenError::ClaimMalformed { claim: "sub", expected: "a string of 1 to 255 bytes" };
    let cases = [
        (json!({ "sub": null }), TokenError::ClaimMissing { claim: "sub" }),
        (json!({ "sub": "" }), sub),
        (json!({ "sub": 5 }), sub),
        (json!({ "sub": "x".repeat(256) }), sub),
        (json!({ "info": "Ada" }), TokenError::ClaimMalformed { claim: "info", expected: "a JSON object" }),
        (json!({ "topic": "chat:a" }), TokenError::NotForConnecting),
        (json!({ "topic": 5 }), TokenError::ClaimMalformed { claim: "topic", expected: "a string" }),
    ];
    for (changes, want) in cases {
        assert_eq!(verdict(&with(ada(), changes.clone())), Err(want), "{changes}");
    }
    assert_eq!(verdict(&with(ada(), json!({ "sub": "x".repeat(255) }))), Ok(()));
    for wrong in [json!("prices:*"), json!([5]), json!(["room*"]), json!([""]), json!(vec!["a"; 129])] {
        for claim in ["subscribe", "publish"] {
            let got = verdict(&with(ada(), json!({ claim: wrong })));
            let named = matches!(got, Err(TokenError::ClaimMalformed { claim: named, .. }) if named == claim);
            assert!(named, "{claim} {wrong}: {got:?}");
        }
    }
}

#[test]
fn a_token_for_one_topic_is_good_for_that_one_and_that_user() {
    let signer = Signer::new(Algorithm::EdDsa);
    let verifier = signer.verifier();
    let token = signer.token(None, &with(ada(), json!({ "topic": "chat:a", "info": { "role": "host" } })));
    let grant = verifier.subscription(&token, "chat:a", Some("ada"), NOW).unwrap();
    assert_eq!(grant.info.as_deref(), Some(r#"{"role":"host"}"#));
    assert_eq!(grant.valid_until, Some(UnixSeconds(NOW.0 + 630)));
    let of = |topic, user| verifier.subscription(&token, topic, user, NOW);
    assert_eq!(of("chat:b", Some("ada")), Err(TokenError::OtherTopic));
    assert_eq!(of("chat", Some("ada")), Err(TokenError::OtherTopic));
    assert_eq!(of("chat:a", Some("eve")), Err(TokenError::OtherUser));
    assert_eq!(of("chat:a", None), Err(TokenError::OtherUser));
    assert_eq!(verifier.connection(&token, NOW), Err(TokenError::NotForConnecting));
    let late = UnixSeconds(NOW.0 + 630);
    assert!(verifier.subscription(&token, "chat:a", Some("ada"), late).unwrap_err().is_expiry());

    // A connection without a user takes tokens of nobody, and nobody else does.
    let nobody = signer.token(None, &with(ada(), json!({ "topic": "chat:a", "sub": "" })));
    assert!(verifier.subscription(&nobody, "chat:a", None, NOW).is_ok());
    assert_eq!(verifier.subscription(&nobody, "chat:a", Some("ada"), NOW), Err(TokenError::OtherUser));
    let missing = signer.token(None, &with(ada(), json!({ "topic": "chat:a", "sub": null })));
    let want = Err(TokenError::ClaimMissing { claim: "sub" });
    assert_eq!(verifier.subscription(&missing, "chat:a", None, NOW), want);
    // A pattern is no topic, and a token for connecting is none for a topic.
    let pattern = signer.token(None, &with(ada(), json!({ "topic": "chat:*" })));
    assert_eq!(verifier.subscription(&pattern, "chat:a", Some("ada"), NOW), Err(TokenError::OtherTopic));
    let want = Err(TokenError::ClaimMissing { claim: "topic" });
    assert_eq!(verifier.subscription(&signer.token(None, &ada()), "chat:a", Some("ada"), NOW), want);
}

#[test]
fn a_newer_token_is_the_same_users() {
    let signer = Signer::new(Algorithm::Hs256);
    let newer = signer.token(None, &with(ada(), json!({ "exp": NOW.0 + 6000 })));
    let identity = signer.verifier().refresh(&newer, "ada", NOW).unwrap();
    assert_eq!(identity.valid_until, Some(UnixSeconds(NOW.0 + 6030)));
    assert_eq!(signer.verifier().refresh(&newer, "eve", NOW), Err(TokenError::OtherUser));
}

#[test]
fn no_error_holds_anything_of_the_token() {
    let signer = Signer::new(Algorithm::Hs256);
    let mark = "MARKER";
    let claims = [
        json!({ "sub": [mark], "exp": NOW.0 + 600 }),
        with(ada(), json!({ "aud": mark })),
        with(ada(), json!({ "topic": mark })),
        with(ada(), json!({ "exp": mark })),
        with(ada(), json!({ "info": mark })),
        with(ada(), json!({ "subscribe": [format!("{mark}*")] })),
    ];
    let headers =
        [json!({ "alg": mark }), json!({ "alg": "HS256", "kid": mark }), json!({ "alg": "HS256", "typ": [mark] })];
    let by_claims = claims.iter().map(|claims| signer.token(None, claims));
    let by_header = headers.iter().map(|header| signer.token_of(&header.to_string(), &json!({ "sub": 5 }).to_string()));
    let verifier = Verifier::new(jwks(&[signer.jwk(Some("k1"))]), Policy::default());
    for token in by_claims.chain(by_header) {
        for error in [
            verifier.connection(&token, NOW).unwrap_err(),
            verifier.subscription(&token, "chat:a", Some("ada"), NOW).unwrap_err(),
        ] {
            let said = format!("{error} {error:?}");
            assert!(!said.contains(mark) && !said.contains(&token[..8]), "{said}");
        }
    }
}

#[test]
fn the_guide_says_what_holds() {
    let guide = include_str!("../../../docs/WIRE.md");
    let leeway = format!("leeway of\n{} seconds", Policy::default().leeway.as_secs());
    for bound in [leeway, format!("At most {TOKEN_BYTES_MAX} bytes"), "`exp` required".to_owned()] {
        assert!(guide.contains(&bound), "{bound}");
    }
    for algorithm in Algorithm::ALL {
        assert!(guide.contains(algorithm.name()), "{algorithm}");
    }
}

#[test]
fn random_noise_is_never_accepted_and_never_panics() {
    let seed = std::env::var("AUTH_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(fresh_seed);
    let mut random = crate::connection::Random::new(seed);
    let signers = Algorithm::ALL.map(Signer::new);
    let verifier = Verifier::new(jwks(&signers.each_ref().map(|signer| signer.jwk(Some("k1")))), Policy::default());
    let tokens = signers.each_ref().map(|signer| signer.token(Some("k1"), &ada()));
    for round in 0..4000 {
        let mut token = tokens[round % 4].clone().into_bytes();
        for _ in 0..=random.below(3) {
            let at = random.below(token.len() as u64) as usize;
            match random.below(4) {
                0 if token.len() > 1 => drop(token.remove(at)),
                1 => token.insert(at, b"A._-=\0{"[random.below(7) as usize]),
                2 => token[at] ^= 1 << random.below(7),
                _ => token.truncate(at + 1),
            }
        }
        let Ok(token) = String::from_utf8(token) else { continue };
        let same = tokens.contains(&token);
        assert_eq!(verifier.connection(&token, NOW).is_ok(), same, "AUTH_SEED={seed}, round {round}: {token}");
    }
}

fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one("auth")
}
