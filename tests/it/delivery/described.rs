//! Delivery to a target described in a TOML file alone: two steps, found again by look-up.

use std::sync::{Arc, Mutex};

use super::*;
use crate::targets::described::{Desk, HELPDESK, Mood, case, described, helpdesk, puts, target, target_of};

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_is_made_and_closed_once_whatever_answers_are_lost() {
    const RECORDS: usize = 60;
    let desk: Arc<Mutex<Desk>> = Arc::default();
    let rng = Mutex::new(SmallRng::seed_from_u64(7));
    // Of the 120 requests that change something, two in three lose their answer after the work was done.
    let server = helpdesk(&desk, move |call| match rng.lock().unwrap().random_range(0..9) {
        0..4 if call.method == "POST" => Mood::WorksAndCuts,
        4..6 if call.method == "POST" => Mood::WorksAndFails,
        6 => Mood::Busy,
        _ => Mood::Fine,
    })
    .await;
    let (_folder, path) = described(HELPDESK);
    let more = r#"retry = { first = "100ms", max = "400ms", give_up_after = "1h" }"#;
    let installation = install(&target(&path, &server.url, more)).await;
    let encoder = installation.encoders.of("cases").unwrap();
    let rows = (0..RECORDS).map(|n| (format!("accelex/case-{n}"), encoder.encode(&case(n)).unwrap()));
    produce_to(&installation, "cases", rows.collect::<Vec<_>>()).await;
    let role = start(&installation);
    let closed =
        |desk: &Mutex<Desk>| desk.lock().unwrap().tickets.iter().filter(|(_, state)| state == "closed").count();
    eventually("all are closed", || closed(&desk) >= RECORDS).await;
    let delivered = || ["delivered", "duplicate"].map(|outcome| tries(&installation, outcome)).iter().sum::<u64>();
    eventually("all tries ended", || delivered() >= RECORDS as u64).await;
    stop(&installation, role).await;

    let tickets = desk.lock().unwrap().tickets.clone();
    let ids: BTreeSet<&str> = tickets.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!((tickets.len(), ids.len()), (RECORDS, RECORDS), "{tickets:?}");
    assert_eq!(dead_letters(&installation).await, []);
    let attempts = attempts(&installation).await;
    let lost = attempts.iter().filter(|attempt| attempt.outcome == AttemptOutcome::Unresolved).count();
    assert!(lost > 20, "{lost} answers were lost: too few to show anything");
}

fn tries(installation: &Installation, outcome: &str) -> u64 {
    installation.metrics.delivery_attempts.with_label_values(&["helpdesk", outcome]).get()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_whose_template_fails_is_a_dead_letter_with_its_place_and_its_key_goes_on() {
    let server =
        crate::common::scripted::Scripted::start(|_| crate::common::scripted::Said::Json(200, serde_json::json!({})))
            .await;
    // It fails for records without a category.
    let json = r#"{ subject = "{{ record.subject }}", queue = "[{{ record.category }}]" }"#;
    let (_folder, path) = described(&puts(json, ""));
    let installation = install(&target_of(&path, &server.url, "")).await;
    let encoder = installation.encoders.of("cases").unwrap();
    // One key; the second of its records lacks what the template asks for.
    let rows = [Some("billing"), None, Some("returns")].into_iter().enumerate().map(|(n, category)| {
        let record = ledgerhook::event::CaseRecord { category: category.map(str::to_owned), ..case(n) };
        ("accelex/case-0".to_owned(), encoder.encode(&record).unwrap())
    });
    produce_to(&installation, "cases", rows.collect::<Vec<_>>()).await;
    let role = start(&installation);
    eventually("the others are delivered", || tries(&installation, "delivered") == 2).await;
    stop(&installation, role).await;
    let paths: Vec<String> = server.calls().iter().map(|call| call.path.clone()).collect();
    assert_eq!(paths, ["/cases/evt-0000", "/cases/evt-0002"]);
    let letters = dead_letters(&installation).await;
    let [letter] = letters.as_slice() else { panic!("{letters:?}") };
    assert_eq!(letter.event_id, "evt-0001");
    let told = letter.detail.as_deref().unwrap_or_default();
    assert!(told.contains("records.cases.steps[0].json.queue"), "its place is told: {told}");
}
