//! The loop against a clock that stands still and a receiver of our own making; plans, and what is shown of them.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tokio::time::{Instant, sleep};

use super::http::{Answer, Post};
use super::*;
use crate::config::Config;

const SECRET: &str = "canary-77ab";

fn source(name: &str) -> Source {
    let text = format!(
        "[sources.{name}]\nsecrets = [{{ id = \"old\", value = \"env:OLD\", verify_only = true }}, \
         {{ id = \"t\", value = \"env:TEST\", test = true }}, {{ id = \"b\", value = \"env:NEW\" }}]\n"
    );
    let env = |name: &str| Some(if name == "NEW" { SECRET } else { "another" }.to_owned());
    Config::parse(&text, "t.toml", &env, &[]).unwrap().sources.remove(name).unwrap()
}

fn plan(name: &str, event_type: &str) -> SendPlan {
    SendPlan::new(source(name), event_type, "http://127.0.0.1:9/x".to_owned(), None).unwrap()
}

const OK: Answer = Answer::Status { status: 200, code: None };
const BUSY: Answer = Answer::Status { status: 503, code: None };

/// When it came, body and headers of each request.
type Requests = Vec<(Duration, Vec<u8>, Vec<(String, String)>)>;

/// A receiver that answers the n-th request as `answer` says, after the time that it says.
#[derive(Clone)]
struct Fake<F> {
    began: Instant,
    seen: Arc<Mutex<Requests>>,
    answer: F,
}

impl<F: Fn(usize) -> (Duration, Answer) + Clone + Send + Sync + 'static> Post for Fake<F> {
    async fn post(&self, body: Vec<u8>, headers: Vec<(String, String)>) -> Answer {
        let n = {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.push((self.began.elapsed(), body, headers));
            seen.len() - 1
        };
        let (wait, answer) = (self.answer)(n);
        sleep(wait).await;
        answer
    }
}

async fn run_with<F>(plan: SendPlan, answer: F) -> (SendReport, Requests)
where
    F: Fn(usize) -> (Duration, Answer) + Clone + Send + Sync + 'static,
{
    let fake = Fake { began: Instant::now(), seen: Arc::default(), answer };
    let seen = Arc::clone(&fake.seen);
    let report = run::run(Arc::new(Load::new(plan).unwrap()), fake).await;
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    (report, seen)
}

fn sums_hold(report: &SendReport) {
    let r = report;
    assert_eq!(r.planned, r.accepted + r.given_up + r.abandoned + r.unsent, "{r:?}");
    assert_eq!(r.requests, r.accepted + r.refused + r.unanswered, "{r:?}");
    assert_eq!(r.requests, r.planned - r.unsent + r.retried, "{r:?}");
    assert_eq!(r.requests, r.answers.values().sum::<u64>(), "{r:?}");
    assert_eq!(r.requests, r.event_types.values().map(|t| t.requests).sum::<u64>(), "{r:?}");
    assert_eq!(r.distinct_events, r.event_types.values().map(|t| t.distinct_events).sum::<u64>(), "{r:?}");
}

/// Timers of tokio are exact to a millisecond.
fn seconds(requests: &Requests) -> Vec<u64> {
    requests.iter().map(|(at, ..)| (at.as_millis() as u64 + 50) / 1_000).collect()
}

#[tokio::test(start_paused = true)]
async fn refusals_are_repeated_on_the_schedule_until_it_ends() {
    let (report, requests) = run_with(plan("accbooks", "invoice.paid"), |_| (Duration::ZERO, BUSY)).await;
    assert_eq!(seconds(&requests), [0, 1, 3, 7, 15, 31]);
    assert!(requests.iter().all(|(_, body, headers)| (body, headers) == (&requests[0].1, &requests[0].2)));
    assert_eq!((report.given_up, report.refused, report.retried, report.abandoned), (1, 6, 5, 0));
    sums_hold(&report);
}

#[tokio::test(start_paused = true)]
async fn silence_is_repeated_until_the_run_would_take_too_long() {
    let (report, requests) = run_with(plan("accelex", "case.closed"), |_| (Duration::from_secs(3_600), OK)).await;
    // 5 s for each answer, then 5 s and 30 s; the two minutes after that are more than the run has.
    assert_eq!(seconds(&requests), [0, 10, 45]);
    assert_eq!((report.abandoned, report.unanswered, report.answers["timeout"]), (1, 3, 3));
    assert_eq!(report.latency, crate::simulate::report::Latency::default());
    sums_hold(&report);

    let later = |n| (Duration::from_secs(if n == 0 { 6 } else { 4 }), OK);
    let (report, requests) = run_with(plan("accelex", "case.closed"), later).await;
    assert_eq!(seconds(&requests), [0, 10]);
    assert!(report.all_accepted() && report.latency.max_ms >= 4_000.0, "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn lateness_is_not_hidden() {
    let open = SendPlan { count: 5, rate: Some(10.0), concurrency: 1, ..plan("accbooks", "invoice.paid") };
    let (report, requests) = run_with(open, |_| (Duration::from_secs(1), OK)).await;
    assert_eq!(seconds(&requests), [0, 1, 2, 3, 4]);
    // The last was due after 0.4 s, sent after 4 s and answered after 5 s.
    assert!((report.max_late_ms - 3_600.0).abs() < 50.0, "{report:?}");
    assert!((report.latency.max_ms - 4_600.0).abs() < 50.0, "{report:?}");

    let easy = SendPlan { count: 50, rate: Some(10.0), ..plan("accbooks", "invoice.paid") };
    let (report, _) = run_with(easy, |_| (Duration::from_millis(5), OK)).await;
    assert!(report.max_late_ms < 5.0 && (4.8..5.1).contains(&report.seconds), "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn duplicates_are_the_same_bytes_of_events_sent_before() {
    let many = SendPlan { count: 1_000, duplicates: 0.2, ..plan("accbooks", ALL) };
    let (report, requests) = run_with(many, |_| (Duration::from_millis(1), OK)).await;
    let mut bodies: BTreeMap<&[u8], u64> = BTreeMap::new();
    for (_, body, _) in &requests {
        *bodies.entry(body).or_default() += 1;
    }
    assert_eq!((bodies.len(), requests.len()), (1_000, 1_200));
    assert_eq!((report.distinct_events, report.duplicates_sent, report.planned), (1_000, 200, 1_200));
    let ids: std::collections::BTreeSet<String> = bodies
        .keys()
        .map(|body| serde_json::from_slice::<serde_json::Value>(body).unwrap()["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids.len(), 1_000);
    assert_eq!(report.event_types.len(), 11);
    sums_hold(&report);
}

#[tokio::test(start_paused = true)]
async fn sums_hold_whatever_is_answered() {
    for seed in 0..20 {
        let stop = CancellationToken::new();
        let wild = SendPlan {
            count: 300,
            duplicates: 0.5,
            rate: (seed % 2 == 0).then_some(20.0),
            seed,
            stop: stop.clone(),
            ..plan(if seed % 3 == 0 { "accelex" } else { "accbooks" }, ALL)
        };
        let answer = move |n: usize| match crate::simulate::random::number(seed, 7, n as u64) % 6 {
            0 => (Duration::from_secs(60), OK),
            1 => (Duration::from_millis(300), Answer::Cut),
            2 => (Duration::from_millis(20), BUSY),
            3 => (Duration::from_millis(1), Answer::Status { status: 400 + n as u16 % 100, code: Some(n.to_string()) }),
            _ => (Duration::from_millis(50), OK),
        };
        let mut ending = tokio::task::JoinSet::new();
        if seed % 4 == 1 {
            ending.spawn(async move {
                sleep(Duration::from_secs(3)).await;
                stop.cancel();
            });
        }
        let (report, requests) = run_with(wild, answer).await;
        assert_eq!(report.requests, requests.len() as u64);
        assert!(report.answers.len() <= 65);
        assert_eq!(report.unsent > 0, seed % 4 == 1, "{report}");
        sums_hold(&report);
    }
}

#[tokio::test(start_paused = true)]
async fn a_given_body_goes_out_as_it_is() {
    let body = b"\x00not json\xff".to_vec();
    let given = SendPlan::new(source("accelex"), "anything", "http://h/".to_owned(), Some(body.clone())).unwrap();
    let given = SendPlan { count: 3, ..given };
    let (report, requests) = run_with(given, |_| (Duration::ZERO, OK)).await;
    assert!(requests.len() == 3 && requests.iter().all(|(_, sent, _)| *sent == body));
    assert_eq!((report.distinct_events, report.accepted), (1, 3));
    let signed = signature::sign(&source("accelex").scheme, SECRET.as_bytes(), &body);
    assert_eq!(requests[0].2, [("X-AccelEx-Signature".to_owned(), signed)]);
    sums_hold(&report);
}

#[test]
fn wrong_plans_are_refused() {
    let refused = |plan: SendPlan| Load::new(plan).unwrap_err().to_string();
    let good = || plan("accbooks", "invoice.paid");
    for (plan, said) in [
        (SendPlan { duplicates: 1.1, ..good() }, "duplicates is a share"),
        (SendPlan { duplicates: f64::NAN, ..good() }, "duplicates is a share"),
        (SendPlan { rate: Some(0.0), ..good() }, "rate is a number"),
        (SendPlan { rate: Some(f64::INFINITY), ..good() }, "rate is a number"),
        (SendPlan { concurrency: 0, ..good() }, "concurrency is from 1"),
        (SendPlan { event_types: vec![], ..good() }, "event type is missing"),
        (SendPlan { event_types: vec!["invoice.piad".to_owned()], ..good() }, "no event type `invoice.piad`"),
    ] {
        let found = refused(plan);
        assert!(found.contains(said), "{found}");
    }
    let found = SendPlan::new(source("accelex"), "x", String::new(), None).unwrap_err().to_string();
    assert!(found.contains("`all` or one of: invoice.resolved, contract.processed"), "{found}");
    let mut other = source("accelex");
    (other.preset, other.routes) = ("hmac".to_owned(), "orders".to_owned());
    assert!(matches!(SendPlan::new(other, ALL, String::new(), None), Err(SendError::NoFixtures(_))));
    let mut retired = source("accelex");
    retired.secrets.truncate(1);
    assert!(matches!(
        Load::new(SendPlan::new(retired, ALL, String::new(), None).unwrap()),
        Err(SendError::NoSecret(_))
    ));
    for url in ["", "localhost", "ftp://h/", "unix:/x"] {
        assert!(http::HttpPost::new(&SendPlan { url: url.to_owned(), ..good() }).is_err(), "{url}");
    }
}

#[test]
fn a_dry_run_shows_the_request_and_no_secret() {
    let quoted = "it's\n100 % \\ \"$HOME\"".as_bytes().to_vec();
    for body in [None, Some(quoted), Some(vec![0, 159, 146, 150])] {
        let shown = SendPlan::new(source("accbooks"), "invoice.paid", "http://h/x".to_owned(), body).unwrap();
        let load = Load::new(shown.clone()).unwrap();
        let (_, event) = load.event(0);
        let text = dry_run(shown).unwrap();
        let headers = load.headers(0, &event, 0);
        assert!(text.contains(&format!("--header 'AccBooks-Signature: {}'", headers[0].1)), "{text}");
        assert!(text.contains("--max-time 10") && text.contains("secret b."), "{text}");
        assert!(!text.contains(SECRET), "{text}");
        // What the shell would give to curl is the body to the byte.
        let script = text[text.find("\nprintf").unwrap()..].split(" | curl").next().unwrap().to_owned();
        let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        assert_eq!(output.stdout, event.body, "{script}");
    }
    assert_eq!(dry_run(plan("accelex", ALL)).unwrap().matches("curl --request POST").count(), 5);
}

/// The commands of a dry run, for each way of signing: what they print is what stands in the header.
#[test]
fn a_signature_made_by_hand_is_the_one_that_is_sent() {
    let sh = |script: &str, secret: &str| {
        let ran = std::process::Command::new("sh").args(["-c", script]).env("SECRET", secret).output().unwrap();
        String::from_utf8(ran.stdout).unwrap()
    };
    if sh("openssl version", "").is_empty() {
        eprintln!("skipped: openssl is not installed");
        return;
    }
    let secret = "whsec_Y2FuYXJ5LTc3YWI=";
    for (preset, header) in [
        ("accbooks", "AccBooks-Signature: sha256="),
        ("stripe", "v1="),
        ("slack", "v0="),
        ("shopify", "X-Shopify-Hmac-SHA256: "),
        ("standard-webhooks", "v1,"),
    ] {
        let text = format!("[sources.{preset}]\npath = \"/x\"\nsecrets = [{{ id = \"a\", value = \"env:S\" }}]\n");
        let mut config = Config::parse(&text, "t.toml", &|_| Some(secret.to_owned()), &[]).unwrap();
        let source = config.sources.remove(preset).unwrap();
        let body = Some(b"{\"it's\": \"100 %\"}".to_vec());
        let shown = dry_run(SendPlan::new(source, "push", "http://h/x".to_owned(), body).unwrap()).unwrap();
        let script = shown.lines().find_map(|line| line.strip_prefix("#   ")).unwrap();
        let printed = sh(script, secret);
        let digest = printed.split_whitespace().next().unwrap_or_else(|| panic!("{shown}"));
        assert!(digest.len() > 40 && shown.contains(&format!("{header}{digest}'")), "{printed}\n{shown}");
    }
}

#[test]
fn ids_and_types_go_where_the_source_has_them() {
    let text = "[sources.github]\nsecrets = [{ id = \"a\", value = \"env:S\" }]\n";
    let mut config = Config::parse(text, "t.toml", &|_| Some(SECRET.to_owned()), &[]).unwrap();
    let source = config.sources.remove("github").unwrap();
    let plan = SendPlan::new(source, "push", "http://h/x".to_owned(), Some(b"{}".to_vec())).unwrap();
    let load = Load::new(SendPlan { seed: 7, ..plan }).unwrap();
    let (_, event) = load.event(3);
    let headers = load.headers(3, &event, 0);
    let named: Vec<_> = headers[1..].iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(named, [("X-GitHub-Delivery", "send_7"), ("X-GitHub-Event", "push")]);
}
