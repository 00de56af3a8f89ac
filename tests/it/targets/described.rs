//! A target described in a TOML file alone, against a helpdesk that loses answers, refuses and pretends.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ledgerhook::config::Config;
use ledgerhook::event::{AttemptOutcome, CaseRecord, Record, Sha256, Timestamp};
use ledgerhook::targets::{Answer, Client, Idempotency};
use serde_json::{Value, json};

use crate::common::SIGNING_SECRET;
use crate::common::scripted::{Call, Said, Scripted};

/// The example of the reference, as a file of a user's.
pub(crate) const HELPDESK: &str = include_str!("helpdesk.toml");

/// A folder with a description in it, and its path.
pub(crate) fn described(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("helpdesk.toml");
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

/// A description that puts each case with this tree as its JSON, and says this on top.
pub(crate) fn puts(json: &str, more: &str) -> String {
    let head = r#"
title = "Puts"
proved_on = "nothing"
[id]
value = "{{ record.event_id }}"
max = 64
[idempotency]
class = "upsert"
"#;
    let step = r#"
[[records.cases.steps]]
name = "write"
repeat = "upsert"
method = "PUT"
path = "/cases/{{ id }}"
"#;
    format!("{head}{more}{step}json = {json}\n")
}

/// The help desk as a target.
pub(crate) fn target(preset: &std::path::Path, url: &str, more: &str) -> String {
    let own = r#"settings = { queue = "Billing" }
secrets = { api_token = "env:TEST_SIGNING_SECRET" }"#;
    target_of(preset, url, &format!("{own}\n{more}"))
}

/// A target with a description that asks for nothing.
pub(crate) fn target_of(preset: &std::path::Path, url: &str, more: &str) -> String {
    format!(
        r#"
[targets.helpdesk]
preset = "{}"
records = ["cases"]
start = "earliest"
url = "{url}"
allow_private_addresses = true
timeout = "5s"
settle = "100ms"
{more}
"#,
        preset.display()
    )
}

fn client(description: &str, url: &str) -> Client {
    let (_folder, path) = described(description);
    let env = |_: &str| Some(SIGNING_SECRET.to_owned());
    let config =
        Config::parse(&target(&path, url, ""), "t.toml", &env, &[]).unwrap_or_else(|faults| panic!("{faults}"));
    drop(rustls::crypto::ring::default_provider().install_default());
    Client::new(&config.targets["helpdesk"]).unwrap()
}

pub(crate) fn case(number: usize) -> CaseRecord {
    CaseRecord {
        event_id: format!("evt-{number:04}"),
        source: "accelex".to_owned(),
        event_type: "case.closed".to_owned(),
        entity_id: format!("case-{number}"),
        occurred_at: None,
        received_at: Timestamp::now(),
        body_sha256: Sha256::of(b"{}"),
        work_unit_id: None,
        provenance: None,
        validation: Vec::new(),
        attributes: "{}".to_owned(),
        case_id: Some(format!("case-{number}")),
        subject: Some("He said \"no\"\n\u{202e}🙂 }} {{ 7*7 }}".to_owned()),
        category: None,
        priority: None,
        summary: None,
        customer: None,
        routing: None,
        resolution: None,
        bank_feed_id: None,
        bank: None,
        error_code: None,
        message: None,
        error_occurred_at: None,
    }
}

/// What a helpdesk does to a request beside its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Fine,
    /// Works, and the connection ends before the answer.
    WorksAndCuts,
    /// Works, and says 500.
    WorksAndFails,
    /// 429 before it works.
    Busy,
}

/// Tickets by external id: number and state.
#[derive(Default)]
pub(crate) struct Desk {
    pub(crate) tickets: Vec<(String, String)>,
}

/// A helpdesk, whose mood the test chooses by method and path.
pub(crate) async fn helpdesk(
    desk: &Arc<Mutex<Desk>>,
    mood: impl Fn(&Call) -> Mood + Send + Sync + 'static,
) -> Scripted {
    let desk = Arc::clone(desk);
    Scripted::start(move |call| {
        if call.header("authorization") != format!("Bearer {SIGNING_SECRET}") {
            return Said::Json(401, json!({"message": "no such token"}));
        }
        let mood = mood(call);
        if mood == Mood::Busy {
            return Said::Text(429, vec![("retry-after", "1".to_owned())], "slow down".to_owned());
        }
        let answer = work(&mut desk.lock().unwrap(), call);
        match mood {
            Mood::WorksAndCuts => Said::Cut,
            Mood::WorksAndFails => Said::Text(500, Vec::new(), "oops".to_owned()),
            _ => answer,
        }
    })
    .await
}

fn work(desk: &mut Desk, call: &Call) -> Said {
    let ticket = |(n, (id, state)): (usize, &(String, String))| json!({"id": n, "external_id": id, "state": state});
    match (call.method.as_str(), call.path.as_str()) {
        ("GET", "/api/me") => Said::Json(200, json!({"name": "agent"})),
        ("GET", "/api/tickets") => {
            let mut url = reqwest::Url::parse("http://desk/").unwrap();
            url.set_query(Some(&call.query));
            let query: BTreeMap<_, _> = url.query_pairs().into_owned().collect();
            // As some search, by words: what is found need not be what was asked for.
            let found =
                desk.tickets.iter().enumerate().filter(|(_, (id, _))| id.starts_with(&query["external_id"][..4]));
            Said::Json(200, json!({"tickets": found.map(ticket).collect::<Vec<_>>()}))
        }
        ("POST", "/api/tickets") => {
            let body = call.json();
            if body["queue"] != "Billing" {
                return Said::Json(200, json!({"error": "no queue of that name"}));
            }
            desk.tickets.push((body["external_id"].as_str().unwrap().to_owned(), "open".to_owned()));
            Said::Json(201, json!({"ticket": ticket((desk.tickets.len() - 1, desk.tickets.last().unwrap()))}))
        }
        ("POST", path) => {
            let number: usize =
                path.strip_prefix("/api/tickets/").unwrap().strip_suffix("/close").unwrap().parse().unwrap();
            assert_eq!(desk.tickets[number].1, "open", "closed twice");
            desk.tickets[number].1 = "closed".to_owned();
            Said::Json(200, json!({}))
        }
        other => panic!("{other:?}"),
    }
}

async fn send(client: &Client, number: usize, look_first: bool) -> Answer {
    client.send(&Arc::new(Record::from(case(number))), Timestamp::now(), look_first).await
}

fn shown(answer: &Answer) -> (AttemptOutcome, String, bool) {
    (answer.verdict.outcome, answer.verdict.reason.to_string(), answer.verdict.leaves_doubt())
}

#[tokio::test]
async fn steps_run_in_order_and_a_repeat_goes_on_where_the_last_try_ended() {
    use AttemptOutcome::{Delivered, Duplicate, RateLimited, Retry, Unresolved};
    let closes = |call: &Call| call.path.ends_with("/close");
    for (name, creating, closing, first, second, third) in [
        ("fine", Mood::Fine, Mood::Fine, (Delivered, "http_200", false), Duplicate, None),
        (
            "answer of create lost",
            Mood::WorksAndCuts,
            Mood::Fine,
            (Unresolved, "connection_cut", true),
            Delivered,
            Some(Duplicate),
        ),
        ("create fails late", Mood::WorksAndFails, Mood::Fine, (Retry, "http_500", true), Delivered, Some(Duplicate)),
        ("answer of close lost", Mood::Fine, Mood::WorksAndCuts, (Unresolved, "connection_cut", true), Duplicate, None),
        // By itself a 429 leaves no doubt; here the ticket is made already.
        ("busy when closing", Mood::Fine, Mood::Busy, (RateLimited, "http_429", true), Delivered, Some(Duplicate)),
        ("busy when creating", Mood::Busy, Mood::Fine, (RateLimited, "http_429", false), Delivered, Some(Duplicate)),
    ] {
        let desk = Arc::default();
        let met = Mutex::new(Vec::new());
        let server = helpdesk(&desk, move |call| {
            let mut met = met.lock().unwrap();
            let new = call.method == "POST" && !met.contains(&call.path);
            met.push(if call.method == "POST" { call.path.clone() } else { String::new() });
            match (new, closes(call)) {
                (false, _) => Mood::Fine,
                (true, true) => closing,
                (true, false) => creating,
            }
        })
        .await;
        let client = client(HELPDESK, &server.url);
        assert_eq!(client.idempotency(), Idempotency::LookUp { settle: Duration::from_millis(100) });
        let answer = send(&client, 1, false).await;
        assert_eq!(shown(&answer), (first.0, first.1.to_owned(), first.2), "{name}: {answer:?}");
        assert_eq!(send(&client, 1, true).await.verdict.outcome, second, "{name}");
        if let Some(third) = third {
            assert_eq!(send(&client, 1, true).await.verdict.outcome, third, "{name}");
        }
        assert_eq!(desk.lock().unwrap().tickets, [("accelex:evt-0001".to_owned(), "closed".to_owned())], "{name}");
    }
}

#[tokio::test]
async fn what_is_found_counts_only_if_it_is_ours() {
    let desk = Arc::new(Mutex::new(Desk { tickets: vec![("accelex:evt-0009".to_owned(), "open".to_owned())] }));
    let server = helpdesk(&desk, |_| Mood::Fine).await;
    let client = client(HELPDESK, &server.url);
    assert_eq!(send(&client, 1, true).await.verdict.outcome, AttemptOutcome::Delivered);
    let states: Vec<String> = desk.lock().unwrap().tickets.iter().map(|(_, state)| state.clone()).collect();
    assert_eq!(states, ["open", "closed"]);
    let sent = server.calls()[1].json();
    assert_eq!(sent["subject"], case(1).subject.unwrap());
    assert_eq!(server.lines(), ["GET /api/tickets", "POST /api/tickets", "POST /api/tickets/1/close"]);
}

#[tokio::test]
async fn a_look_up_that_cannot_be_read_sends_nothing() {
    use AttemptOutcome::{Credentials, Retry, Unresolved};
    for (said, outcome) in [
        (Said::Text(200, Vec::new(), "<html>".to_owned()), Retry),
        (Said::Json(200, json!({"other": []})), Retry),
        (Said::Text(503, Vec::new(), String::new()), Retry),
        (Said::Json(401, json!({})), Credentials),
        (Said::Cut, Unresolved),
    ] {
        let scripted = said.clone();
        let server = Scripted::start(move |_| scripted.clone()).await;
        let answer = send(&client(HELPDESK, &server.url), 1, true).await;
        assert_eq!(answer.verdict.outcome, outcome, "{said:?}");
        // It adds no doubt: looking changes nothing.
        assert!(!answer.verdict.leaves_doubt(), "{said:?}");
        assert!(server.lines().iter().all(|line| line == "GET /api/tickets"), "{:?}", server.lines());
    }
    // 404 and an empty list: there is none.
    for said in
        [Said::Json(404, json!({})), Said::Json(200, json!({"tickets": []})), Said::Json(200, json!({"tickets": null}))]
    {
        let server = Scripted::start(move |call| match call.method.as_str() {
            "GET" => said.clone(),
            _ => Said::Json(200, json!({"ticket": {"id": 1, "state": "closed"}})),
        })
        .await;
        let answer = send(&client(HELPDESK, &server.url), 1, true).await;
        assert_eq!(answer.verdict.outcome, AttemptOutcome::Delivered, "{answer:?}");
    }
}

#[tokio::test]
async fn answers_are_read_by_the_rules_and_shown_without_secrets() {
    use AttemptOutcome::{Rejected, Unresolved};
    for (body, outcome, reason) in [
        (json!({"error": format!("no queue `Billing` for {SIGNING_SECRET}")}), Rejected, "refused"),
        // It may have made a ticket, and does not say which.
        (json!({"fine": true}), Unresolved, "answer_incomplete"),
    ] {
        let server = Scripted::start(move |_| Said::Json(200, body.clone())).await;
        let answer = send(&client(HELPDESK, &server.url), 1, false).await;
        assert_eq!((answer.verdict.outcome, answer.verdict.reason.to_string().as_str()), (outcome, reason));
        assert!(!format!("{answer:?}").contains(SIGNING_SECRET), "{answer:?}");
    }
}

#[tokio::test]
async fn records_that_make_no_request_are_refused_with_the_place() {
    let server = Scripted::start(|_| Said::Json(500, Value::Null)).await;
    let client = client(HELPDESK, &server.url);
    let without = Arc::new(Record::from(CaseRecord { subject: None, ..case(1) }));
    let answer = client.send(&without, Timestamp::now(), false).await;
    assert_eq!(shown(&answer), (AttemptOutcome::Rejected, "unsendable".to_owned(), false));
    let fault = answer.fault.unwrap();
    assert!(fault.contains("records.cases.steps[0].json.subject: the record has no subject"), "{fault}");
    let long = Arc::new(Record::from(CaseRecord { subject: Some("ä".repeat(200)), ..case(1) }));
    let answer = client.send(&long, Timestamp::now(), false).await;
    assert_eq!(answer.notes, ["subject cut from 200 to 150 characters"]);
    assert_eq!(server.calls()[0].json()["subject"].as_str().unwrap().chars().count(), 150);
    assert_eq!(server.calls().len(), 1);
}

#[tokio::test]
async fn a_target_is_tried_out_without_creating_anything() {
    let desk = Arc::default();
    let server = helpdesk(&desk, |_| Mood::Fine).await;
    let client = client(HELPDESK, &server.url);
    let trial = client.probe(Timestamp::now()).await;
    assert_eq!((trial.connected, trial.let_in), (true, Some(true)));
    assert_eq!(server.lines(), ["GET /api/me"]);
    let (shown, notes) = client.show(&Arc::new(Record::from(case(1)))).unwrap();
    let names: Vec<&str> = shown.iter().map(|shown| shown.name.as_str()).collect();
    assert_eq!((names, notes.len()), (vec!["look_up", "create", "close"], 0));
    assert!(client.text_of(&shown[2].request).ends_with("/api/tickets/%3Cticket%3E/close"));
    assert!(desk.lock().unwrap().tickets.is_empty());

    let server = Scripted::start(|_| Said::Json(401, json!({}))).await;
    let trial = self::client(HELPDESK, &server.url).probe(Timestamp::now()).await;
    assert_eq!((trial.connected, trial.let_in), (true, Some(false)));
    let trial = self::client(HELPDESK, "http://127.0.0.1:1/").probe(Timestamp::now()).await;
    assert_eq!((trial.connected, trial.let_in), (false, None));
}

#[test]
fn the_example_is_the_one_of_the_reference() {
    let reference = include_str!("../../../docs/targets/FORMAT.md");
    assert!(reference.contains(&format!("```toml\n{HELPDESK}```")));
}
