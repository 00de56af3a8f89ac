//! Delivery to a target described in a TOML file alone: two steps, found again by look-up.

use std::sync::{Arc, Mutex};

use super::*;
use crate::targets::described::{Desk, HELPDESK, Mood, case, described, helpdesk, target};

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
