//! Key files: what is read, what is refused and where, and what a reload leaves.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::auth::{KEYS_MAX, KeyError, KeyFile, TokenError};

fn refused(text: impl AsRef<[u8]>, format: KeyFormat) -> String {
    KeySet::from_text("FILE", text.as_ref(), format).unwrap_err().to_string()
}

fn refused_jwk(jwk: Value) -> String {
    let good = Signer::new(Algorithm::Hs256).jwk(Some("good"));
    refused(json!({ "keys": [good, jwk] }).to_string(), KeyFormat::Jwks)
}

#[test]
fn several_keys_of_one_pem_file_all_hold() {
    let signers = [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa, Algorithm::EdDsa].map(Signer::new);
    let text: String =
        signers.iter().map(|signer| format!("# a key\r\n{}", pem("PUBLIC KEY", &signer.public_der()))).collect();
    let keys = KeySet::from_text("keys", text.as_bytes(), KeyFormat::Pem).unwrap();
    assert!(keys.describe().eq(signers.iter().map(|signer| (None, signer.algorithm()))));
    let verifier = Verifier::new(keys, Policy::default());
    for signer in &signers {
        assert!(verifier.connection(&signer.token(None, &ada()), NOW).is_ok());
    }
}

#[test]
fn pem_that_cannot_be_used_is_refused_by_line() {
    let good = pem("PUBLIC KEY", &Signer::new(Algorithm::EdDsa).public_der());
    let line = good.lines().count() + 1;
    let rsa_1024 = "30819f300d06092a864886f70d010101050003818d0030818902818100";
    let bits_1024 = [&hex(rsa_1024)[..], &[0xc5; 128], &hex("0203010001")].concat();
    let p384 = EcdsaKeyPair::generate(&aws_lc_rs::signature::ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
    let p384 = p384.public_key().as_der().unwrap().as_ref().to_vec();
    let half = &good[..good.len() / 2];
    let cases = [
        (half.to_owned(), "this block"),
        (good.replace("-----END PUBLIC KEY-----", ""), "damaged"),
        (good.replacen("MC", "M!", 1), "damaged"),
        (pem("PRIVATE KEY", &[1, 2, 3]), "a private key"),
        (pem("RSA PRIVATE KEY", &[1, 2, 3]), "a private key"),
        (pem("ENCRYPTED PRIVATE KEY", &[1, 2, 3]), "a private key"),
        (pem("CERTIFICATE", &[1, 2, 3]), "another kind of PEM"),
        (pem("RSA PUBLIC KEY", &[1, 2, 3]), "another kind of PEM"),
        (pem("PUBLIC KEY", &[1, 2, 3]), "expected a public key"),
        (pem("PUBLIC KEY", &bits_1024), "expected a public key"),
        (pem("PUBLIC KEY", &p384), "expected a public key"),
    ];
    for (text, what) in cases {
        let said = refused(format!("{good}{text}"), KeyFormat::Pem);
        let what = if what == "this block" { "damaged" } else { what };
        assert!(said.starts_with(&format!("FILE, line {line}: ")) && said.contains(what), "{said}");
    }
    for nothing in ["", "\n", "text", "----BEGIN PUBLIC KEY-----"] {
        assert_eq!(refused(nothing, KeyFormat::Pem), "FILE holds no key for HS256, RS256, ES256 or EdDSA");
    }
}

#[test]
fn secrets_are_long_and_are_no_keys() {
    assert!(KeySet::from_text("FILE", &[b' ', b'x'].repeat(17), KeyFormat::Secret).is_ok());
    for bytes in [0, 1, 31] {
        let said = refused(format!("{}\n", "x".repeat(bytes)), KeyFormat::Secret);
        assert!(said.starts_with(&format!("the secret in FILE has {bytes} bytes; HS256 needs at least 32")), "{said}");
    }
    for bytes in [32, 33, 44, 65, 91, 294] {
        for first in [0, 4, DER] {
            let mut secret = vec![b'x'; bytes];
            secret[0] = first;
            assert!(KeySet::from_text("FILE", &secret, KeyFormat::Secret).is_ok(), "{bytes} bytes from {first}");
        }
    }
    let rsa = Signer::new(Algorithm::Rs256);
    let signers = [rsa, Signer::new(Algorithm::Es256), Signer::new(Algorithm::EdDsa)];
    let keys = signers.iter().flat_map(|signer| {
        let der = signer.public_der();
        [pem("PUBLIC KEY", &der).into_bytes(), pem("PRIVATE KEY", &der).into_bytes(), der]
    });
    for key in keys.chain([json!({ "keys": [signers[0].jwk(None)] }).to_string().into_bytes()]) {
        let said = refused(&key, KeyFormat::Secret);
        assert!(said.starts_with("FILE holds a key, not a secret"), "{said}");
    }
}

#[test]
fn a_key_that_ends_in_white_space_is_no_secret() {
    for last in *b"x \t\n\x0c\r" {
        let key = [&hex("302a300506032b6570032100")[..], &[7; 30], &[last; 2]].concat();
        for behind in ["", "\n", "\r\n"] {
            let said = refused([&key, behind.as_bytes()].concat(), KeyFormat::Secret);
            assert!(said.starts_with("FILE holds a key, not a secret"), "{last:#x}, {behind:?}: {said}");
        }
    }
}

#[test]
fn a_jwks_is_read_for_what_checks_signatures() {
    let signers = Algorithm::ALL.map(Signer::new);
    let mut keys: Vec<_> = signers.iter().enumerate().map(|(n, signer)| signer.jwk(Some(&n.to_string()))).collect();
    keys.push(with(signers[1].jwk(Some("enc")), json!({ "use": "enc" })));
    keys.push(with(signers[1].jwk(Some("ops")), json!({ "key_ops": ["encrypt"] })));
    keys.push(with(signers[1].jwk(Some("alg")), json!({ "alg": "RS512" })));
    keys.push(json!({ "kty": "EC", "crv": "P-521", "kid": "curve" }));
    keys.push(json!({ "kty": "AKP", "kid": "kind" }));
    for (member, value) in [("use", json!("sig")), ("key_ops", json!(["sign", "verify"])), ("alg", json!("RS256"))] {
        keys.push(with(signers[1].jwk(Some(member)), json!({ member: value, "x5t": "ignored" })));
    }
    let keys = jwks(&keys);
    let ids: Vec<_> = keys.describe().map(|(id, _)| id.unwrap()).collect();
    assert_eq!(ids, ["0", "1", "2", "3", "use", "key_ops", "alg"]);
}

#[test]
fn a_kid_selects_its_key() {
    let [old, new, other] = [Algorithm::EdDsa; 3].map(Signer::new);
    let named = Verifier::new(jwks(&[old.jwk(Some("old")), new.jwk(Some("new"))]), Policy::default());
    let get =
        |verifier: &Verifier, signer: &Signer, kid| verifier.connection(&signer.token(kid, &ada()), NOW).map(drop);
    assert_eq!(get(&named, &old, Some("old")), Ok(()));
    assert_eq!(get(&named, &new, Some("new")), Ok(()));
    assert_eq!(get(&named, &new, Some("old")), Err(TokenError::BadSignature));
    assert_eq!(get(&named, &new, Some("unknown")), Err(TokenError::UnknownKeyId));
    assert_eq!(get(&named, &new, Some("")), Err(TokenError::UnknownKeyId));
    // Without a name, all are tried.
    assert_eq!(get(&named, &old, None), Ok(()));
    assert_eq!(get(&named, &new, None), Ok(()));
    assert_eq!(get(&named, &other, None), Err(TokenError::BadSignature));
    // A key without a name stands for those that no key is named after, and only for those.
    let mixed = Verifier::new(jwks(&[old.jwk(Some("old")), other.jwk(None)]), Policy::default());
    assert_eq!(get(&mixed, &other, Some("unknown")), Ok(()));
    assert_eq!(get(&mixed, &other, Some("old")), Err(TokenError::BadSignature));
    // One name for two algorithms.
    let hs256 = Signer::new(Algorithm::Hs256);
    let both = Verifier::new(jwks(&[old.jwk(Some("k")), hs256.jwk(Some("k"))]), Policy::default());
    assert_eq!(get(&both, &old, Some("k")), Ok(()));
    assert_eq!(get(&both, &hs256, Some("k")), Ok(()));
    assert_eq!(get(&named, &hs256, Some("old")), Err(TokenError::NoKeyForAlgorithm));
}

#[test]
fn a_jwks_that_cannot_be_used_is_refused_by_field() {
    let [rsa, ec, ed] = [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa].map(Signer::new);
    let short = base64url([1; 31]);
    let cases = [
        (json!(5), "FILE, field keys[1]: expected an object"),
        (json!({}), "FILE, field keys[1].kty: expected a key type"),
        (json!({ "kty": 5 }), "FILE, field keys[1].kty: expected a string"),
        (json!({ "kty": "oct" }), "FILE, field keys[1].k: expected bytes"),
        (json!({ "kty": "oct", "k": "a=" }), "FILE, field keys[1].k: expected bytes"),
        (json!({ "kty": "oct", "k": short }), "FILE, field keys[1].k: expected at least 32 bytes"),
        (with(rsa.jwk(None), json!({ "n": null })), "FILE, field keys[1].n: expected bytes"),
        (with(rsa.jwk(None), json!({ "e": "" })), "FILE, field keys[1].e: expected bytes"),
        (with(rsa.jwk(None), json!({ "n": base64url([0xc5; 128]) })), "FILE, field keys[1].n: expected with `e`"),
        (with(rsa.jwk(None), json!({ "d": "AQAB" })), "FILE, field keys[1].d: expected no private key"),
        (with(ec.jwk(None), json!({ "y": null })), "FILE, field keys[1].y: expected bytes"),
        (with(ec.jwk(None), json!({ "x": short })), "FILE, field keys[1].x: expected 32 bytes"),
        (with(ec.jwk(None), json!({ "x": base64url([1; 32]) })), "FILE, field keys[1].x: expected with `y`"),
        (with(ed.jwk(None), json!({ "x": short })), "FILE, field keys[1].x: expected 32 bytes"),
        (with(ed.jwk(None), json!({ "kid": 5 })), "FILE, field keys[1].kid: expected a string"),
        (with(ed.jwk(None), json!({ "key_ops": "verify" })), "FILE, field keys[1].key_ops: expected an array"),
    ];
    for (jwk, want) in cases {
        let said = refused_jwk(jwk);
        assert!(said.starts_with(want), "{said}, expected {want}");
    }
    for (text, want) in [
        ("", "FILE, line 1, column 0: not JSON here"),
        ("{\"keys\": [\n  {,}\n]}", "FILE, line 2, column 4: not JSON here"),
        ("{}", "FILE, field keys: expected an array"),
        ("[]", "FILE, field keys: expected an array"),
        ("{\"keys\": {}}", "FILE, field keys: expected an array"),
        ("{\"keys\": []}", "FILE holds no key"),
        ("{\"keys\": [{\"kty\": \"other\"}]}", "FILE holds no key"),
    ] {
        let said = refused(text, KeyFormat::Jwks);
        assert!(said.starts_with(want), "{said}, expected {want}");
    }
    let twice = json!({ "keys": [ed.jwk(Some("k")), Signer::new(Algorithm::EdDsa).jwk(Some("k"))] });
    assert_eq!(refused(twice.to_string(), KeyFormat::Jwks), "FILE: two keys for EdDSA have the same `kid`");
    let many: Vec<_> = (0..=KEYS_MAX).map(|n| ed.jwk(Some(&n.to_string()))).collect();
    assert_eq!(refused(json!({ "keys": many }).to_string(), KeyFormat::Jwks), "FILE: more than 32 keys in all");
    assert!(jwks(&many[1..]).describe().count() == KEYS_MAX);
}

#[test]
fn a_modulus_with_a_leading_zero_is_the_same_number() {
    let signer = Signer::new(Algorithm::Rs256);
    let mut jwk = signer.jwk(None);
    let n = URL_SAFE_NO_PAD.decode(jwk["n"].as_str().unwrap()).unwrap();
    jwk["n"] = base64url([&[0], &n[..]].concat()).into();
    let verifier = Verifier::new(jwks(&[jwk]), Policy::default());
    assert!(verifier.connection(&signer.token(None, &ada()), NOW).is_ok());
}

#[test]
fn a_reload_of_a_bad_file_keeps_the_old_keys_and_names_the_place() {
    let folder = Folder::new("reload");
    let [first, second] = [Algorithm::Es256; 2].map(Signer::new);
    let set = |signer: &Signer| json!({ "keys": [signer.jwk(Some("k"))] }).to_string();
    let secret = Signer::new(Algorithm::Hs256);
    let files =
        vec![folder.file("jwks", set(&first), KeyFormat::Jwks), folder.file("secret", SECRET, KeyFormat::Secret)];
    let path = files[0].path.clone();
    let old = Verifier::from_files(files, Policy::default()).unwrap();
    let accepts = |verifier: &Verifier, signer: &Signer| verifier.connection(&signer.token(None, &ada()), NOW).is_ok();
    assert!(accepts(&old, &first) && accepts(&old, &secret));

    let unfinished = set(&second);
    let unfinished = &unfinished[..unfinished.len() - 4];
    let bad = [
        (unfinished, format!("{}, line 1, column {}: not JSON here", path.display(), unfinished.len())),
        (r#"{"keys": [{"kty": "oct", "k": "c2hvcnQ"}]}"#, format!("{}, field keys[0].k: expected", path.display())),
    ];
    for (text, want) in bad {
        fs::write(&path, text).unwrap();
        let said = old.reloaded().unwrap_err().to_string();
        assert!(said.starts_with(&want), "{said}, expected {want}");
        assert!(accepts(&old, &first) && accepts(&old, &secret));
    }
    fs::remove_file(&path).unwrap();
    assert!(matches!(old.reloaded(), Err(KeyError::Unreadable { .. })));
    fs::write(&path, vec![b' '; 2 << 20]).unwrap();
    assert!(matches!(old.reloaded(), Err(KeyError::TooLarge { .. })));

    fs::write(&path, set(&second)).unwrap();
    let new = old.reloaded().unwrap();
    assert!(accepts(&new, &second) && accepts(&new, &secret) && !accepts(&new, &first));
    // Whoever still has the old one is not affected.
    assert!(accepts(&old, &first) && !accepts(&old, &second));
}

#[test]
fn errors_and_debug_hold_no_key_material() {
    let secret = "hush-".repeat(20);
    let keys = KeySet::from_text("FILE", secret.as_bytes(), KeyFormat::Secret).unwrap();
    assert_eq!(format!("{keys:?}"), "[(None, Hs256)]");
    let said = format!("{:?}", Verifier::new(keys, Policy::default()));
    assert!(!said.contains("hush"), "{said}");
    for text in ["hush", "{\"keys\": [{\"kty\": \"hush\", \"kid\": hush}]}", "-----BEGIN hush", "{\"keys\": \"hush\"}"]
    {
        for format in [KeyFormat::Secret, KeyFormat::Pem, KeyFormat::Jwks] {
            let error = KeySet::from_text("FILE", text.as_bytes(), format).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hush"), "{error}");
        }
    }
}

#[test]
fn a_verifier_goes_to_every_core() {
    fn is_shared<T: Send + Sync + Clone>() {}
    is_shared::<Verifier>();
}

/// A folder that goes away with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("corewire-auth-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, text: impl AsRef<[u8]>, format: KeyFormat) -> KeyFile {
        let path = Path::join(&self.0, name);
        fs::write(&path, text).unwrap();
        KeyFile { path, format }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// First byte of keys in DER.
const DER: u8 = 0x30;
