//! Cases and reviews as tickets of a real Request Tracker and a real Roundup, read back through their own APIs.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ledgerhook::event::{AttemptOutcome, Record, Timestamp};
use ledgerhook::targets::{Answer, Client};
use serde_json::{Value, json};

use crate::common::cutting::Cutting;
use crate::common::real::{Real, http, real};
use crate::common::records::{attempts, dead_letters, deliver, ended, produce, record};
use crate::common::{install, within};

const RECORDS: &str = r#"["cases", "reviews"]"#;
const TEXTS: [&str; 6] = [
    "\"}],{\\",
    "a\nb\r\nc\td",
    "🧾💷 é",
    "\u{202e}evil\u{202c} \u{200f}x",
    "{{ 7 * 7 }}{% raw %}",
    "'; DROP TABLE x; --",
];

fn tracker_settings(tracker: &Real) -> String {
    format!(
        r#"
[targets.request-tracker.secrets]
token = "{}"
[targets.request-tracker.settings]
queue = "{}"
priorities = {{ high = "High" }}
"#,
        tracker.secret("TOKEN"),
        tracker.get("QUEUE"),
    )
}

fn roundup_settings(tracker: &Real) -> String {
    format!(
        r#"
[targets.roundup.secrets]
password = "{}"
[targets.roundup.settings]
user = "{}"
origin = "{}"
priorities = {{ high = "urgent", odd = "no such priority" }}
"#,
        tracker.secret("PASSWORD"),
        tracker.get("LOGIN"),
        tracker.get("URL").trim_end_matches('/'),
    )
}

fn case(subject: &str) -> Value {
    json!({
        "case_id": format!("case_{}", uuid::Uuid::now_v7().simple()), "subject": subject, "category": "billing",
        "priority": "high", "summary": "The customer was charged twice; the second charge was refunded.",
        "customer": { "name": "Zoë Müller", "email": "zoe.mueller@example.com" },
        "routing": { "queue": "billing-l2", "assignee": "m.okafor" }, "resolution": "refunded",
    })
}

fn with(mut members: Value, name: &str, value: &Value) -> Value {
    members[name] = value.clone();
    members
}

async fn send(client: &Client, record: &Record) -> Answer {
    client.send(&Arc::new(record.clone()), Timestamp::now(), false).await
}

fn id_of(record: &Record) -> String {
    format!("{}:{}", record.source(), record.event_id())
}

/// The tickets of Request Tracker with our id of this record.
async fn tickets(tracker: &Real, record: &Record) -> Vec<Value> {
    search(tracker, &format!("CF.{{ExternalId}} = '{}'", id_of(record)), "Subject,Status,Priority,Requestor", 1).await
}

/// A page of a hundred of what it finds.
async fn search(tracker: &Real, query: &str, fields: &str, page: usize) -> Vec<Value> {
    let mut address: reqwest::Url = format!("{}REST/2.0/tickets", tracker.get("URL")).parse().unwrap();
    let mut pairs = address.query_pairs_mut();
    pairs.append_pair("query", query).append_pair("fields", fields);
    pairs.append_pair("per_page", "100").append_pair("page", &page.to_string());
    drop(pairs);
    let request = http().get(address).header("authorization", format!("token {}", tracker.get("TOKEN")));
    let (status, answer) = tracker.ask(request).await;
    assert_eq!(status, 200, "{answer}");
    answer["items"].as_array().unwrap().clone()
}

/// The first text of a ticket.
async fn content(tracker: &Real, ticket: &Value) -> String {
    let get = async |path: String| {
        let request = http().get(format!("{}REST/2.0/{path}", tracker.get("URL")));
        tracker.ask(request.header("authorization", format!("token {}", tracker.get("TOKEN")))).await.1
    };
    let attachments = get(format!("ticket/{}/attachments", ticket["id"].as_str().unwrap())).await;
    let attachment = get(format!("attachment/{}", attachments["items"][0]["id"].as_str().unwrap())).await;
    let content = attachment["Content"].as_str().unwrap().replace('\n', "");
    let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, content).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// What Roundup keeps of a class, by a query.
async fn roundup(tracker: &Real, class: &str, query: &[(&str, &str)]) -> Vec<Value> {
    let mut address: reqwest::Url = format!("{}rest/data/{class}", tracker.get("URL")).parse().unwrap();
    address.query_pairs_mut().extend_pairs(query);
    let request = http().get(address).basic_auth(tracker.get("LOGIN"), Some(tracker.get("PASSWORD")));
    let request =
        request.header("origin", tracker.get("URL").trim_end_matches('/')).header("x-requested-with", "tests");
    let (status, answer) = tracker.ask(request).await;
    assert_eq!(status, 200, "{answer}");
    answer["data"]["collection"].as_array().unwrap().clone()
}

async fn issues(tracker: &Real, record: &Record) -> Vec<Value> {
    let fields = "title,ext_id,status,priority,messages";
    roundup(tracker, "issue", &[("ext_id:", &id_of(record)), ("@fields", fields), ("@verbose", "2")]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_case_becomes_one_ticket_in_request_tracker() {
    let tracker = real("request-tracker").await;
    let client = tracker.client(&tracker.table(RECORDS, tracker.get("URL"), &tracker_settings(tracker)));
    let case = record("case.closed", &case("Charged twice"));
    let answer = send(&client, &case).await;
    assert_eq!(answer.verdict.outcome, AttemptOutcome::Delivered, "{answer:?}");
    let found = tickets(tracker, &case).await;
    let [ticket] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(
        (&ticket["Subject"], &ticket["Status"], &ticket["Priority"]),
        (&json!("Charged twice"), &json!("new"), &json!("High"))
    );
    assert_eq!(ticket["Requestor"][0]["id"], "zoe.mueller@example.com");
    let text = content(tracker, ticket).await;
    assert!(text.contains("charged twice; the second") && text.contains("Zoë Müller"), "{text}");

    let answer = client.send(&Arc::new(case.clone()), Timestamp::now(), true).await;
    assert_eq!(answer.verdict.outcome, AttemptOutcome::Duplicate, "{answer:?}");
    assert_eq!(tickets(tracker, &case).await.len(), 1);

    for (event_type, members) in [
        (
            "workflow.failed",
            json!({ "workflow_id": "wf_1", "failed_stage": "line_extraction", "reason": "low", "confidence": 0.412,
            "threshold": 0.85, "related": { "type": "invoice", "id": "inv_1" } }),
        ),
        ("workflow.failed", json!({})),
        (
            "bank_feed.error",
            json!({ "bank_feed_id": "feed_1", "bank": "Barclays", "error_code": "consent_expired", "message": "Expired." }),
        ),
        ("case.closed", json!({})),
    ] {
        let record = record(event_type, &members);
        let answer = send(&client, &record).await;
        assert_eq!(answer.verdict.outcome, AttemptOutcome::Delivered, "{members}: {answer:?}");
        assert_eq!(tickets(tracker, &record).await.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_case_holds_request_tracker_gets_it_or_says_why_not() {
    let tracker = real("request-tracker").await;
    let table = tracker.table(RECORDS, tracker.get("URL"), &tracker_settings(tracker));
    let client = tracker.client(&table);
    for text in TEXTS {
        let case = record("case.closed", &with(case(text), "summary", &json!(text)));
        let answer = send(&client, &case).await;
        assert_eq!(answer.verdict.outcome, AttemptOutcome::Delivered, "{text:?}: {answer:?}");
        let found = tickets(tracker, &case).await;
        let one_line = text.replace(['\r', '\n'], " ");
        // It trims what is at an end and takes white space together.
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(words(found[0]["Subject"].as_str().unwrap()), words(&one_line));
        let text = text.replace("\r\n", "\n");
        let content = content(tracker, &found[0]).await.replace("\r\n", "\n");
        assert!(content.contains(&text), "{text:?}: {content:?}");
    }
    let long = record("case.closed", &with(case(&"é".repeat(5_000)), "summary", &json!("x".repeat(200_000))));
    let answer = send(&client, &long).await;
    assert_eq!((answer.verdict.outcome, answer.notes.len()), (AttemptOutcome::Delivered, 1), "{answer:?}");
    assert_eq!(answer.notes[0], "subject cut from 10000 to 200 bytes");
    assert_eq!(tickets(tracker, &long).await[0]["Subject"], "é".repeat(100));

    let forged = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(forged.path(), "1-2-0123456789abcdef").unwrap();
    for (right, wrong, outcome, words) in [
        (
            "queue = \"Support\"",
            "queue = \"Nowhere\"",
            AttemptOutcome::Rejected,
            "create tickets in the queue 'Nowhere'",
        ),
        (
            "[targets.request-tracker.settings]",
            "[targets.request-tracker.settings]\nexternal_id_field = \"Nothing\"",
            AttemptOutcome::Rejected,
            "external_id_not_kept",
        ),
        (
            tracker.secret("TOKEN").as_str(),
            &format!("file:{}", forged.path().display()),
            AttemptOutcome::Credentials,
            "Unauthorized",
        ),
    ] {
        let client = tracker.client(&table.replace(right, wrong));
        let answer = send(&client, &record("case.closed", &case("Nobody's"))).await;
        assert_eq!(answer.verdict.outcome, outcome, "{answer:?}");
        let said = format!("{} {}", answer.verdict.reason, answer.excerpt.unwrap_or_default());
        assert!(said.contains(words), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_case_becomes_one_issue_in_roundup() {
    let tracker = real("roundup").await;
    let client = tracker.client(&tracker.table(RECORDS, tracker.get("URL"), &roundup_settings(tracker)));
    let case = record("case.closed", &case("Charged twice"));
    let answer = send(&client, &case).await;
    assert_eq!(answer.verdict.outcome, AttemptOutcome::Delivered, "{answer:?}");
    let found = issues(tracker, &case).await;
    let [issue] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((&issue["title"], &issue["priority"]["name"]), (&json!("Charged twice"), &json!("urgent")));
    assert_eq!(issue["messages"].as_array().unwrap().len(), 1);

    // Not looked for: it is refused, and the refusal proved.
    for look_first in [false, true] {
        let answer = client.send(&Arc::new(case.clone()), Timestamp::now(), look_first).await;
        assert_eq!(answer.verdict.outcome, AttemptOutcome::Duplicate, "{answer:?}");
    }
    assert_eq!(issues(tracker, &case).await.len(), 1);
    let message = format!("<{}@ledgerhook>", id_of(&case));
    assert_eq!(roundup(tracker, "msg", &[("messageid:", &message)]).await.len(), 1);

    for (event_type, members) in [
        (
            "workflow.failed",
            json!({ "workflow_id": "wf_1", "failed_stage": "line_extraction", "reason": "low", "confidence": 0.412,
            "threshold": 0.85, "related": { "type": "invoice", "id": "inv_1" } }),
        ),
        ("workflow.failed", json!({})),
        (
            "bank_feed.error",
            json!({ "bank_feed_id": "feed_1", "bank": "Barclays", "error_code": "consent_expired", "message": "Expired." }),
        ),
        ("case.closed", json!({})),
    ] {
        let record = record(event_type, &members);
        let answer = send(&client, &record).await;
        assert_eq!(answer.verdict.outcome, AttemptOutcome::Delivered, "{members}: {answer:?}");
        assert_eq!(issues(tracker, &record).await.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_case_holds_roundup_gets_it_or_says_why_not() {
    let tracker = real("roundup").await;
    let table = tracker.table(RECORDS, tracker.get("URL"), &roundup_settings(tracker));
    let client = tracker.client(&table);
    for text in TEXTS {
        let case = record("case.closed", &with(case(text), "summary", &json!(text)));
        let answer = send(&client, &case).await;
        assert_eq!(answer.verdict.outcome, AttemptOutcome::Delivered, "{text:?}: {answer:?}");
        let found = issues(tracker, &case).await;
        assert_eq!(found[0]["title"], text.replace(['\r', '\n'], " "));
        let message = found[0]["messages"][0]["id"].as_str().unwrap().to_owned();
        let request = http().get(format!("{}rest/data/msg/{message}/content", tracker.get("URL")));
        let request = request.basic_auth(tracker.get("LOGIN"), Some(tracker.get("PASSWORD")));
        let request =
            request.header("origin", tracker.get("URL").trim_end_matches('/')).header("x-requested-with", "tests");
        let (_, content) = tracker.ask(request).await;
        let content = content["data"]["data"].as_str().unwrap_or_default().replace("\r\n", "\n");
        assert!(content.contains(&text.replace("\r\n", "\n")), "{text:?}: {content:?}");
    }
    let long = record("case.closed", &with(case(&"é".repeat(5_000)), "summary", &json!("x".repeat(200_000))));
    let answer = send(&client, &long).await;
    assert_eq!((answer.verdict.outcome, answer.notes.len()), (AttemptOutcome::Delivered, 1), "{answer:?}");
    assert_eq!(issues(tracker, &long).await[0]["title"], "é".repeat(250));

    let odd = record("case.closed", &with(case("Odd"), "priority", &json!("odd")));
    let answer = send(&client, &odd).await;
    assert_eq!(answer.verdict.outcome, AttemptOutcome::Rejected, "{answer:?}");
    assert!(answer.excerpt.as_deref().unwrap_or_default().contains("is not a priority"), "{answer:?}");
    let stranger = table.replace("user = \"ledgerhook\"", "user = \"stranger\"");
    let answer = send(&tracker.client(&stranger), &record("case.closed", &case("Nobody's"))).await;
    assert_eq!(answer.verdict.outcome, AttemptOutcome::Credentials, "{answer:?}");
}

/// Delivers records until a hundred answers to what changes something at the target were lost: two of three, since a
/// target that loses every one is taken for broken and asked more and more rarely.
async fn lost_answers(
    tracker: &Real,
    name: &str,
    count: usize,
    settings: &str,
    changes: &'static [&'static str],
) -> Vec<Record> {
    let changed = AtomicUsize::new(0);
    let cutting = Cutting::before(tracker.get("URL"), move |method, path, _| {
        method == "POST" && changes.contains(&path) && !changed.fetch_add(1, Ordering::Relaxed).is_multiple_of(3)
    })
    .await;
    let installation = install(&tracker.table(RECORDS, &cutting.url, settings)).await;
    let records: Vec<Record> = (0..count).map(|n| record("case.closed", &case(&format!("Lost answer {n}")))).collect();
    produce(&installation, &records).await;
    let role = deliver(&installation);
    within(400, "all is delivered", || ended(&installation.metrics.render(), name) == count).await;
    installation.stop.cancel();
    role.await.unwrap().unwrap();
    let cuts = cutting.count();
    assert!(cuts >= 100, "{cuts}");
    let unresolved = attempts(&installation).await.iter().filter(|a| a.outcome == AttemptOutcome::Unresolved).count();
    // Each lost answer, and whatever the server was too slow for by itself.
    assert!(unresolved >= cuts, "{unresolved} of {cuts}");
    assert_eq!(dead_letters(&installation).await.len(), 0);
    records
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_answers_make_no_second_ticket_in_request_tracker() {
    let tracker = real("request-tracker").await;
    let records =
        lost_answers(tracker, "request-tracker", 151, &tracker_settings(tracker), &["/REST/2.0/ticket"]).await;
    let mut subjects = Vec::new();
    for page in 1..=2 {
        let found = search(tracker, "Subject LIKE 'Lost answer'", "Subject", page).await;
        subjects.extend(found.iter().map(|ticket| ticket["Subject"].as_str().unwrap().to_owned()));
    }
    subjects.sort();
    let mut sent: Vec<_> = (0..records.len()).map(|n| format!("Lost answer {n}")).collect();
    sent.sort();
    assert_eq!(subjects, sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_answers_make_no_second_issue_in_roundup() {
    let tracker = real("roundup").await;
    let changes = &["/rest/data/msg", "/rest/data/issue"];
    let records = lost_answers(tracker, "roundup", 76, &roundup_settings(tracker), changes).await;
    for record in &records {
        assert_eq!(issues(tracker, record).await.len(), 1);
        let message = format!("<{}@ledgerhook>", id_of(record));
        assert_eq!(roundup(tracker, "msg", &[("messageid:", &message)]).await.len(), 1);
    }
}
