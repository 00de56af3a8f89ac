//! `targets test`, and what `check` says of targets: nothing of it needs Kafka.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::common::SIGNING_SECRET;
use crate::common::process::run;
use crate::common::scripted::{Said, Scripted};
use crate::targets::described::{HELPDESK, Mood, described, helpdesk, target};

fn file(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ledgerhook.toml");
    std::fs::write(&file, text).unwrap();
    (dir, file)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_is_shown_and_asked_without_creating_anything() {
    let desk = Arc::default();
    let server = helpdesk(&desk, |_| Mood::Fine).await;
    let (_folder, path) = described(HELPDESK);
    let (_dir, file) = file(&target(&path, &server.url, ""));
    let tried = run(&file, &["targets", "test", "helpdesk"]).await;
    assert_eq!(tried.code, Some(0), "{tried:?}");
    for part in
        ["# case.closed (cases)", "## create\nPOST http://127.0.0.1", "\"queue\": \"Billing\"", "\nok: it lets us in"]
    {
        assert!(tried.stdout.contains(part), "{part}\n{}", tried.stdout);
    }
    assert!(!format!("{tried:?}").contains(SIGNING_SECRET));
    assert_eq!(server.lines(), ["GET /api/me"]);

    let tried = run(&file, &["targets", "test", "helpdesk", "--json", "--offline"]).await;
    let shown: Value = serde_json::from_str(&tried.stdout).unwrap();
    assert_eq!((shown["trial"].is_null(), shown["samples"].as_array().unwrap().len()), (true, 2), "{shown}");
    assert_eq!(server.lines().len(), 1);

    let unknown = run(&file, &["targets", "test", "helpdesc"]).await;
    assert_eq!(unknown.code, Some(2), "{unknown:?}");
    assert!(unknown.stderr.contains("no target is called helpdesc; there are: helpdesk"), "{unknown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_and_wrong_addresses_are_told_apart() {
    let server = Scripted::start(|_| Said::Json(401, json!({"message": "no such token"}))).await;
    let (_folder, path) = described(HELPDESK);
    for (url, words) in [
        (
            server.url.as_str(),
            "failed: it does not let us in (secret in a header; HTTP 401): {\"message\":\"no such token\"}",
        ),
        ("http://127.0.0.1:1/", "failed: it cannot be reached (connect_failed)"),
    ] {
        let (_dir, file) = file(&target(&path, url, ""));
        let tried = run(&file, &["targets", "test", "helpdesk"]).await;
        assert_eq!(tried.code, Some(1), "{tried:?}");
        assert!(tried.stdout.contains(words), "{words}\n{}", tried.stdout);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_compiles_templates_and_repeats_what_is_experimental() {
    let experimental =
        HELPDESK.replace("proved_on = \"Helpdesk 4.2\"", "proved_on = \"nothing yet\"\nexperimental = true");
    let (_folder, path) = described(&experimental);
    let (_dir, written) = file(&target(&path, "https://desk.example/", "experimental = true"));
    let checked = run(&written, &["check"]).await;
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(checked.stderr.contains("is experimental: proved on nothing yet"), "{checked:?}");

    let (_folder, path) = described(&HELPDESK.replace("| required(", "| requird("));
    let (_dir, written) = file(&target(&path, "https://desk.example/", ""));
    let checked = run(&written, &["check"]).await;
    assert_eq!(checked.code, Some(2), "{checked:?}");
    assert!(
        checked.stderr.contains("records.cases.steps[0].json.subject: no filter is called `requird`"),
        "{checked:?}"
    );
}
