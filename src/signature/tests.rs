//! Vectors of the vendors, or of another implementation; what each rule refuses; and that no mutation gets in.

use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;
use crate::config::{Algorithm, Config, Part, Source};

/// A source of this preset, with further lines; its secret is as its provider writes it.
fn preset(name: &str, secret: &str, more: &str) -> Source {
    let text = format!("[sources.{name}]\npath = \"/x\"\nsecrets = [{{ id = \"a\", value = \"env:S\" }}]\n{more}\n");
    let env = |_: &str| Some(secret.to_owned());
    let mut config = Config::parse(&text, "t.toml", &env, &[]).unwrap_or_else(|faults| panic!("{faults}"));
    config.sources.remove(name).unwrap()
}

/// Each value of `headers` where a request would carry it.
fn claim<'a>(scheme: &Scheme, headers: &'a [(String, String)]) -> Claim<'a> {
    let value = |name: &str| headers.iter().find(|(there, _)| there == name).map(|(_, value)| value.as_str());
    let time = match &scheme.timestamp {
        Some(TimeAt::Header(name)) => value(name),
        _ => None,
    };
    let id = scheme.id_header.as_deref().and_then(value);
    Claim { signature: value(&scheme.header).unwrap_or_default(), timestamp: time, id }
}

fn check(source: &Source, claim: Claim<'_>, now_s: i64, body: &[u8]) -> Result<usize, Fault> {
    verify(&source.scheme, claim, body, now_s, source.secrets.iter().map(|secret| secret.value.expose()))
}

struct Vector {
    preset: &'static str,
    secret: &'static str,
    id: &'static str,
    now_s: i64,
    body: &'static str,
    signature: &'static str,
}

const SLACK: &str = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";

const VECTORS: [Vector; 8] = [
    // GitHub, "Validating webhook deliveries", "Testing the webhook payload validation".
    Vector {
        preset: "github",
        secret: "It's a Secret to Everybody",
        id: "",
        now_s: 0,
        body: "Hello, World!",
        signature: "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
    },
    // Slack, "Verifying requests from Slack".
    Vector {
        preset: "slack",
        secret: "8f742231b10e8888abcd99yyyzzz85a5",
        id: "",
        now_s: 1_531_420_618,
        body: SLACK,
        signature: "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
    },
    // The specification of Standard Webhooks, and all of its libraries.
    Vector {
        preset: "standard-webhooks",
        secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        id: "msg_p5jXN8AQM9LWM0D4loKWxJek",
        now_s: 1_614_265_330,
        body: r#"{"test": 2432232314}"#,
        signature: "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    },
    // Those below are published nowhere; computed with Python's hmac and base64 modules, after each provider's text.
    Vector {
        preset: "stripe",
        secret: "whsec_test_secret",
        id: "",
        now_s: 1_686_089_971,
        body: r#"{"id":"evt_1NG8Du2eZvKYlo2CUI79vXWy","object":"event","created":1686089970,"livemode":true,"type":"setup_intent.created"}"#,
        signature: "t=1686089971,v1=f9195f76a47dc3f2b7c7f45f342824d8b8f2d072665121854d9f91fe41ae12db",
    },
    Vector {
        preset: "shopify",
        secret: "hush",
        id: "",
        now_s: 0,
        body: r#"{"id":820982911946154508,"email":"jon@example.com","updated_at":"2021-12-31T19:00:00-05:00"}"#,
        signature: "Udt0/lOw7YcSqy1llp+EBT7eUqUbqYItCexUsSuQ9Ps=",
    },
    Vector {
        preset: "accelex",
        secret: "accelex-key",
        id: "",
        now_s: 0,
        body: r#"{"event_id":"evt_ax_01J","event_type":"invoice.resolved"}"#,
        signature: "sha256=eaf65c9a1379de07b9a20bc81932d44875ffcf708b933adc90f1ba337755d52e",
    },
    Vector {
        preset: "accbooks",
        secret: "accbooks-key",
        id: "",
        now_s: 0,
        body: r#"{"id":"evt_1","type":"invoice.paid"}"#,
        signature: "sha256=e9c184f0bad94174c3a3e42a8b44961c0428d94c3d03c7d718616e0e292ec0fa",
    },
    // RFC 4231, test case 2.
    Vector {
        preset: "accelex",
        secret: "Jefe",
        id: "",
        now_s: 0,
        body: "what do ya want for nothing?",
        signature: "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
    },
];

impl Vector {
    fn source(&self) -> Source {
        preset(self.preset, self.secret, "")
    }

    fn headers(&self, source: &Source) -> Vec<(String, String)> {
        headers(&source.scheme, source.secrets[0].value.expose(), self.id, self.now_s, self.body.as_bytes())
    }
}

#[test]
fn published_vectors_are_made_and_taken() {
    for vector in &VECTORS {
        let source = vector.source();
        let headers = vector.headers(&source);
        assert_eq!(headers[0], (source.scheme.header.clone(), vector.signature.to_owned()), "{}", vector.preset);
        let taken = check(&source, claim(&source.scheme, &headers), vector.now_s, vector.body.as_bytes());
        assert_eq!(taken, Ok(0), "{}", vector.preset);
        let names = 1 + source.scheme.signed_headers().count();
        assert_eq!(headers.len(), names, "{}", vector.preset);
    }
}

#[test]
fn each_hash_and_encoding_is_that_of_another_implementation() {
    for (algorithm, encoding, signature) in [
        ("hmac-sha1", "hex", "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"),
        ("hmac-sha1", "base64", "7/zfauXrL6LSdBbV8YTfnCWafHk="),
        ("hmac-sha256", "hex", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
        ("hmac-sha256", "base64", "W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM="),
        (
            "hmac-sha512",
            "base64",
            "Fkt6e/z4GeLjlfvnO1bgo4e9ZCIugx/WECcM1+olBVSXWL91wFqZSm0DT2X48Ob9yuqxo01Ka0tjbgcKOLznNw==",
        ),
    ] {
        let more = format!(
            "id = [\"/id\"]\ntype = [\"/type\"]\nscheme = {{ header = \"X-S\", algorithm = \"{algorithm}\", encodings = [\"{encoding}\"] }}"
        );
        let source = preset("hmac", "Jefe", &more);
        let body = b"what do ya want for nothing?";
        assert_eq!(sign(&source.scheme, b"Jefe", body), signature);
        let claim = Claim { signature, ..Claim::default() };
        assert_eq!(check(&source, claim, 0, body), Ok(0), "{algorithm} {encoding}");
        let cut = Claim { signature: &signature[..signature.len() - 4], ..claim };
        assert_eq!(check(&source, cut, 0, body), Err(Fault::Invalid));
    }
}

#[test]
fn takes_each_form_the_guide_allows_and_no_other() {
    const BODY: &[u8] = b"what do ya want for nothing?";
    const HEX: &str = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    let source = preset("accelex", "Jefe", "");
    let base64 = BASE64.encode(hex::decode(HEX).unwrap());
    let of = |source: &Source, signature: &str| check(source, Claim { signature, ..Claim::default() }, 0, BODY);
    for good in [
        HEX.to_owned(),
        HEX.to_uppercase(),
        format!("sha256={HEX}"),
        base64.clone(),
        format!("sha256={base64}"),
        format!(" {HEX} "),
    ] {
        assert_eq!(of(&source, &good), Ok(0), "{good}");
    }
    for bad in [
        "",
        "sha256=",
        &HEX[..62],
        &format!("{HEX}00"),
        &format!("sha1={HEX}"),
        &format!("sha256=sha256={HEX}"),
        &format!("{HEX},{HEX}"),
        &HEX.replace('5', "6"),
        "é",
    ] {
        assert_eq!(of(&source, bad), Err(Fault::Invalid), "{bad}");
    }
    let other = preset("accelex", "other", "");
    assert_eq!(of(&other, HEX), Err(Fault::Invalid));
    let strict = preset("accbooks", "Jefe", "");
    assert_eq!(of(&strict, &format!("sha256={HEX}")), Ok(0));
    assert_eq!(of(&strict, HEX), Err(Fault::Invalid));
    assert_eq!(of(&strict, &format!("sha256={base64}")), Err(Fault::Invalid));
}

#[test]
fn any_of_several_signatures_may_match_and_the_time_stands_once() {
    let stripe = &VECTORS[3];
    let source = stripe.source();
    let good = stripe.signature.strip_prefix("t=1686089971,").unwrap();
    let zeros = "0".repeat(64);
    for (signature, expected) in [
        (format!("t=1686089971,v1={zeros},{good}"), Ok(0)),
        (format!("{good},t=1686089971"), Ok(0)),
        (format!("t=1686089971, {good} ,v0={zeros}"), Ok(0)),
        (format!("t=1686089971,v1={zeros}"), Err(Fault::Invalid)),
        (format!("t=1686089971,{}", good.replace("v1", "v0")), Err(Fault::Invalid)),
        (format!("t=1686089971,t=1686089971,{good}"), Err(Fault::Invalid)),
        (format!("t=1686089972,{good}"), Err(Fault::Invalid)),
        (format!("t=+1686089971,{good}"), Err(Fault::Invalid)),
        (format!("t=,{good}"), Err(Fault::Invalid)),
        (good.to_owned(), Err(Fault::Invalid)),
        (stripe.signature.replace(',', " "), Err(Fault::Invalid)),
    ] {
        let claim = Claim { signature: &signature, ..Claim::default() };
        assert_eq!(check(&source, claim, stripe.now_s, stripe.body.as_bytes()), expected, "{signature}");
    }
    let standard = &VECTORS[2];
    let source = standard.source();
    let other = format!("v1,{} v1a,xyz {}", BASE64.encode([0; 32]), standard.signature);
    let claim = Claim { signature: &other, timestamp: Some("1614265330"), id: Some(standard.id) };
    assert_eq!(check(&source, claim, standard.now_s, standard.body.as_bytes()), Ok(0));
}

#[test]
fn a_time_is_taken_within_the_tolerance_on_both_sides() {
    for vector in VECTORS.iter().filter(|vector| vector.now_s > 0) {
        let source = vector.source();
        let headers = vector.headers(&source);
        let at =
            |away: i64| check(&source, claim(&source.scheme, &headers), vector.now_s + away, vector.body.as_bytes());
        assert_eq!((at(300), at(-300)), (Ok(0), Ok(0)), "{}", vector.preset);
        assert_eq!((at(301), at(-301)), (Err(Fault::OutOfTime), Err(Fault::OutOfTime)), "{}", vector.preset);
        // A stranger does not learn the time.
        let stranger = preset(vector.preset, "whsec_YW5vdGhlcg==", "");
        let refused = check(&stranger, claim(&source.scheme, &headers), vector.now_s + 301, vector.body.as_bytes());
        assert_eq!(refused, Err(Fault::Invalid), "{}", vector.preset);
    }
    let source = preset("slack", "s", "scheme.tolerance = \"10s\"");
    for (now_s, then_s, expected) in [
        (1_000, "990", Ok(0)),
        (1_000, "989", Err(Fault::OutOfTime)),
        (0, "9223372036854775807", Err(Fault::OutOfTime)),
        (0, "99999999999999999999", Err(Fault::OutOfTime)),
        (i64::MIN, "0", Err(Fault::OutOfTime)),
        (0, "0x10", Err(Fault::Invalid)),
        (0, "1.5", Err(Fault::Invalid)),
        (0, "-1", Err(Fault::Invalid)),
        (0, "", Err(Fault::Invalid)),
    ] {
        let signature = value(&source.scheme, b"s", Stamp { timestamp: then_s, id: "" }, b"{}");
        let claim = Claim { signature: &signature, timestamp: Some(then_s), id: None };
        assert_eq!(check(&source, claim, now_s, b"{}"), expected, "{then_s}");
    }
}

/// One signature over `id.time.body` must not be good for another way to cut that text.
#[test]
fn what_is_signed_can_be_cut_in_one_way_alone() {
    let source = preset("standard-webhooks", "whsec_Y2FuYXJ5", "");
    let headers = headers(&source.scheme, b"canary", "msg_1", 1_000, br#"1001.{"a":1.5}"#);
    let signature = headers[0].1.as_str();
    let of = |id, timestamp, body: &str| {
        let claim = Claim { signature, timestamp: Some(timestamp), id: Some(id) };
        check(&source, claim, 1_000, body.as_bytes())
    };
    assert_eq!(of("msg_1", "1000", r#"1001.{"a":1.5}"#), Ok(0));
    assert_eq!(of("msg_1.1000", "1001", r#"{"a":1.5}"#), Err(Fault::Invalid));
    assert_eq!(of("msg_1", "1000.1001", r#"{"a":1.5}"#), Err(Fault::Invalid));
    assert_eq!(of("", "1000", r#"1001.{"a":1.5}"#), Err(Fault::Invalid));
}

#[test]
fn every_key_is_tried_and_the_first_that_fits_is_named() {
    let source = preset("github", "k", "");
    let signature = sign(&source.scheme, b"second", b"{}");
    let claim = Claim { signature: &signature, ..Claim::default() };
    let of = |keys: &[&'static [u8]]| {
        let mut tried = 0;
        let keys = keys.iter().copied().inspect(|_| tried += 1);
        let found = verify(&source.scheme, claim, b"{}", 0, keys);
        (found, tried)
    };
    assert_eq!(of(&[b"first", b"second", b"third"]), (Ok(1), 3));
    assert_eq!(of(&[b"second", b"second", b"third"]), (Ok(0), 3), "a hit does not end the search");
    assert_eq!(of(&[b"first"]), (Err(Fault::Invalid), 1));
    assert_eq!(of(&[]), (Err(Fault::Invalid), 0));
}

/// The source of each vector: a configuration takes longer to read than all that is done with it here.
static SOURCES: LazyLock<Vec<Source>> = LazyLock::new(|| VECTORS.iter().map(Vector::source).collect());

/// A signed request of some preset: its source, headers, time and body.
fn requests() -> impl Strategy<Value = (Source, Vec<(String, String)>, i64, Vec<u8>)> {
    let body = proptest::collection::vec(any::<u8>(), 1..200);
    (0..VECTORS.len(), "[a-z0-9_]{1,20}", 0..4_000_000_000_i64, body).prop_map(|(n, id, now_s, body)| {
        let source = SOURCES[n].clone();
        let headers = headers(&source.scheme, source.secrets[0].value.expose(), &id, now_s, &body);
        (source, headers, now_s, body)
    })
}

fn timed() -> impl Strategy<Value = (Source, Vec<(String, String)>, i64, Vec<u8>)> {
    requests().prop_filter("signs a time", |(source, ..)| source.scheme.timestamp.is_some())
}

/// `text` with one character replaced, put in or taken out.
fn mutated(text: &str, how: u8, at: usize, with: char) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    let at = at % chars.len().max(1);
    match how % 3 {
        0 if !chars.is_empty() => chars[at] = with,
        1 if !chars.is_empty() => drop(chars.remove(at)),
        _ => chars.insert(at, with),
    }
    chars.into_iter().collect()
}

/// Case of hex digits, and blanks around members, mean nothing.
fn meaning(source: &Source, value: &str) -> Vec<String> {
    let hex = source.scheme.encodings.contains(&Encoding::Hex);
    let members = value.split(move |c| Some(c) == source.scheme.separator);
    members.map(|m| if hex { m.trim().to_lowercase() } else { m.trim().to_owned() }).collect()
}

/// A signature of the right key that this source must not take: made by another scheme, or written in another way. None
/// where the source takes that too.
type Other = fn(&Scheme, &dyn Fn(Scheme) -> String, &str) -> Option<String>;

/// Every way of being another's, by name.
const OTHERS: [(&str, Other); 8] = [
    ("encoding", |scheme, sign, _| match scheme.encodings.as_slice() {
        [Encoding::Hex] => Some(sign(Scheme { encodings: vec![Encoding::Base64], ..scheme.clone() })),
        [Encoding::Base64] => Some(sign(Scheme { encodings: vec![Encoding::Hex], ..scheme.clone() })),
        _ => None,
    }),
    ("SHA-1", |scheme, sign, _| Some(sign(Scheme { algorithm: Algorithm::HmacSha1, ..scheme.clone() }))),
    ("SHA-512", |scheme, sign, _| Some(sign(Scheme { algorithm: Algorithm::HmacSha512, ..scheme.clone() }))),
    ("prefix", |scheme, sign, _| Some(sign(Scheme { prefix: Some("v9=".to_owned()), ..scheme.clone() }))),
    ("longer prefix", |scheme, sign, _| {
        let prefix = scheme.prefix.clone().unwrap_or_default().repeat(2) + "v1=";
        Some(sign(Scheme { prefix: Some(prefix), ..scheme.clone() }))
    }),
    ("text before the body", |scheme, sign, _| {
        Some(sign(Scheme { before_body: vec![Part::Text("v9".to_owned())], ..scheme.clone() }))
    }),
    ("text behind it", |_, _, right| Some(format!("{right}0"))),
    ("text before it", |_, _, right| Some(format!("x{right}"))),
];

/// Two hundred cases each: together they would be a few of one and many of another.
#[test]
fn another_encoding_hash_or_prefix_is_never_accepted() {
    for (name, other) in OTHERS {
        let cases = requests().prop_filter_map("the source takes that too", move |(source, headers, now_s, body)| {
            let claim = claim(&source.scheme, &headers);
            let key = source.secrets[0].value.expose();
            let sign =
                |scheme| super::headers(&scheme, key, claim.id.unwrap_or_default(), now_s, &body).swap_remove(0).1;
            let changed = other(&source.scheme, &sign, claim.signature)?;
            Some((source, headers, now_s, body, changed))
        });
        let mut runner = TestRunner::new(ProptestConfig::with_cases(200));
        let ran = runner.run(&cases, |(source, headers, now_s, body, changed)| {
            let changed = Claim { signature: &changed, ..claim(&source.scheme, &headers) };
            prop_assert_eq!(check(&source, changed, now_s, &body), Err(Fault::Invalid));
            Ok(())
        });
        ran.unwrap_or_else(|failed| panic!("another {name}: {failed}"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_a_provider_signs_is_taken((source, headers, now_s, body) in requests(), away in -300_i64..=300) {
        prop_assert_eq!(check(&source, claim(&source.scheme, &headers), now_s + away, &body), Ok(0));
    }

    #[test]
    fn a_changed_body_is_never_accepted((source, headers, now_s, body) in requests(), how: u8, at: usize, with: u8) {
        let mut changed = body.clone();
        let at = at % changed.len();
        match how % 3 {
            0 => changed[at] = with,
            1 => drop(changed.remove(at)),
            _ => changed.insert(at, with),
        }
        prop_assume!(changed != body);
        prop_assert_eq!(check(&source, claim(&source.scheme, &headers), now_s, &changed), Err(Fault::Invalid));
    }

    #[test]
    fn a_changed_signature_is_never_accepted(
        (source, headers, now_s, body) in requests(), how: u8, at: usize, with in "[ -~]",
    ) {
        let claim = claim(&source.scheme, &headers);
        // The digest itself: whether text before it may be left out differs, and other tests hold it.
        let prefix = source.scheme.prefix.as_deref().unwrap_or_default();
        let start = claim.signature.find(prefix).unwrap() + prefix.len();
        let changed = mutated(&claim.signature[start..], how, at, with.chars().next().unwrap());
        // At its end, a separator leaves the digest whole.
        prop_assume!(source.scheme.separator.is_none_or(|separator| !changed.contains(separator)));
        let changed = format!("{}{changed}", &claim.signature[..start]);
        prop_assume!(meaning(&source, &changed) != meaning(&source, claim.signature));
        prop_assert_eq!(check(&source, Claim { signature: &changed, ..claim }, now_s, &body), Err(Fault::Invalid));
    }

    #[test]
    fn a_changed_time_is_never_accepted((source, headers, now_s, body) in timed(), how: u8, at: usize, with in "[ -~]") {
        let claim = claim(&source.scheme, &headers);
        let then = now_s.to_string();
        let changed = mutated(&then, how, at, with.chars().next().unwrap());
        prop_assume!(changed.trim() != then);
        let signature = claim.signature.replacen(&format!("t={then}"), &format!("t={changed}"), 1);
        let changed = Claim { signature: &signature, timestamp: claim.timestamp.map(|_| changed.as_str()), ..claim };
        prop_assert_eq!(check(&source, changed, now_s, &body), Err(Fault::Invalid));
    }

    #[test]
    fn a_time_out_of_range_is_never_accepted((source, headers, now_s, body) in timed(), away in 301_i64..1 << 40, back: bool) {
        let now_s = if back { now_s - away } else { now_s + away };
        prop_assert_eq!(check(&source, claim(&source.scheme, &headers), now_s, &body), Err(Fault::OutOfTime));
    }

    #[test]
    fn a_changed_id_is_never_accepted(
        body in proptest::collection::vec(any::<u8>(), 1..200), id in "[a-z0-9_]{1,20}", how: u8, at: usize, with in "[ -~]",
    ) {
        let source = &SOURCES[2];
        let headers = headers(&source.scheme, source.secrets[0].value.expose(), &id, 1_000, &body);
        let changed = mutated(&id, how, at, with.chars().next().unwrap());
        prop_assume!(changed != id);
        let changed = Claim { id: Some(&changed), ..claim(&source.scheme, &headers) };
        prop_assert_eq!(check(source, changed, 1_000, &body), Err(Fault::Invalid));
    }

    #[test]
    fn another_key_is_never_accepted((source, _, now_s, body) in requests(), key in proptest::collection::vec(any::<u8>(), 0..64)) {
        // HMAC fills a key up with zeros.
        let trimmed = |key: &[u8]| key.iter().rposition(|b| *b != 0).map(|end| key[..=end].to_vec());
        prop_assume!(trimmed(&key) != trimmed(source.secrets[0].value.expose()));
        let headers = headers(&source.scheme, &key, "id", now_s, &body);
        prop_assert_eq!(check(&source, claim(&source.scheme, &headers), now_s, &body), Err(Fault::Invalid));
    }

    #[test]
    fn any_text_is_looked_at_without_panic_and_never_accepted(
        n in 0..VECTORS.len(), signature: String, timestamp: String, id: String, now_s: i64, body: Vec<u8>,
    ) {
        let source = &SOURCES[n];
        let claim = Claim { signature: &signature, timestamp: Some(&timestamp), id: Some(&id) };
        prop_assert_eq!(check(source, claim, now_s, &body), Err(Fault::Invalid));
    }
}
