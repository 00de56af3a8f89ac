//! What takes longer than the target's timeout: a token, a login, the target itself.

use std::sync::Arc;
use std::time::Duration;

use ledgerhook::config::Config;
use ledgerhook::event::{AttemptOutcome, Record, Timestamp};
use ledgerhook::targets::{Answer, Client, Scope};
use serde_json::json;
use tokio::time::Instant;

use super::described::{HELPDESK, case, described, puts, target, target_of};
use crate::common::SIGNING_SECRET;
use crate::common::scripted::{Said, Scripted};

const TIMEOUT: Duration = Duration::from_millis(400);
const PROBE: &str = "[probe]\nmethod = \"GET\"\npath = \"/me\"\n";

const OAUTH: &str = r#"
[settings.at]
type = "text"
doc = "Where tokens are"
[secrets.client_secret]
doc = "Secret of the client"
[auth]
kind = "oauth2"
token_url = "{{ settings.at }}token"
client_id = "ledgerhook"
client_secret = "client_secret"
client_authentication = "body"
grant = "client_credentials"
"#;
const SESSION: &str = r#"
[secrets.client_secret]
doc = "Password"
[session]
method = "POST"
path = "/token"
json = { password = "{client_secret}" }
token = "/access_token"
use_headers = { authorization = "Bearer {token}" }
"#;

/// A target that never answers this request, and the token endpoint beside it.
async fn hangs(line: &'static str) -> Scripted {
    Scripted::start(move |call| {
        let said = match call.line().as_str() {
            "POST /token" => json!({"access_token": "t", "token_type": "Bearer"}),
            _ => json!({"tickets": [], "ticket": {"id": 1, "state": "closed"}}),
        };
        let said = Said::Json(200, said);
        if call.line() == line { Said::Late(Duration::from_secs(3_600), Box::new(said)) } else { said }
    })
    .await
}

fn client(toml: &str) -> Client {
    let short = format!("timeout = \"{0}ms\"\nconnect_timeout = \"{0}ms\"", TIMEOUT.as_millis());
    let toml = toml.replace("timeout = \"5s\"", &short);
    let env = |_: &str| Some(SIGNING_SECRET.to_owned());
    let config = Config::parse(&toml, "t.toml", &env, &[]).unwrap_or_else(|faults| panic!("{faults}"));
    drop(rustls::crypto::ring::default_provider().install_default());
    Client::new(&config.targets["helpdesk"]).unwrap()
}

/// A client that is told who we are in this way.
fn client_with(access: &str, url: &str) -> Client {
    let (_folder, path) = described(&puts("{ subject = \"s\" }", &format!("{access}{PROBE}")));
    let settings = if access == OAUTH { format!("settings = {{ at = \"{url}\" }}\n") } else { String::new() };
    let secrets = if access.is_empty() { "" } else { "secrets = { client_secret = \"env:TEST_SIGNING_SECRET\" }" };
    client(&target_of(&path, url, &(settings + secrets)))
}

async fn send(client: &Client, look_first: bool) -> Answer {
    let began = Instant::now();
    let answer = client.send(&Arc::new(Record::from(case(1))), Timestamp::now(), look_first).await;
    assert!(began.elapsed() >= TIMEOUT, "{answer:?}");
    answer
}

fn shown(answer: &Answer) -> (AttemptOutcome, Scope, String, bool) {
    let verdict = &answer.verdict;
    (verdict.outcome, verdict.scope, verdict.reason.to_string(), verdict.leaves_doubt())
}

fn lost() -> (AttemptOutcome, Scope, String, bool) {
    (AttemptOutcome::Unresolved, Scope::Record, "timeout".to_owned(), true)
}

#[tokio::test]
async fn a_token_or_login_that_hangs_holds_the_target_and_no_record_is_in_doubt() {
    for access in [OAUTH, SESSION] {
        let server = hangs("POST /token").await;
        let client = client_with(access, &server.url);
        let unavailable = (AttemptOutcome::Retry, Scope::Target, "token_unavailable".to_owned(), false);
        let answer = send(&client, false).await;
        assert_eq!(shown(&answer), unavailable, "{access}");
        assert_eq!(answer.fault.as_deref(), Some("no token or session in the target's timeout"), "{access}");
        assert_eq!(server.lines(), ["POST /token"], "nothing was sent: {access}");
        let trial = client.probe(Timestamp::now()).await;
        assert_eq!((shown(&trial.answer), trial.connected), (unavailable, false), "{access}");
        assert!(server.lines().iter().all(|line| line == "POST /token"), "{:?}", server.lines());
    }
}

#[tokio::test]
async fn a_target_that_hangs_once_we_are_let_in_leaves_the_record_in_doubt() {
    for access in ["", OAUTH, SESSION] {
        let server = hangs("PUT /cases/evt-0001").await;
        let answer = send(&client_with(access, &server.url), false).await;
        assert_eq!(shown(&answer), lost(), "{access}");
        assert_eq!(server.lines().last().unwrap(), "PUT /cases/evt-0001");
    }
}

#[tokio::test]
async fn a_look_up_or_probe_that_hangs_was_sent_to_the_target() {
    let server = hangs("GET /api/tickets").await;
    let (_folder, path) = described(HELPDESK);
    let answer = send(&client(&target(&path, &server.url, "")), true).await;
    assert_eq!(shown(&answer), lost());
    assert_eq!(server.lines(), ["GET /api/tickets"]);

    let server = hangs("GET /me").await;
    for access in [SESSION, OAUTH] {
        let trial = client_with(access, &server.url).probe(Timestamp::now()).await;
        assert_eq!(trial.answer.verdict.reason.to_string(), "timeout", "{access}");
    }
    // Without a harmless request nobody logs in for it.
    let server = hangs("OPTIONS /").await;
    let (_folder, path) = described(&puts("{ subject = \"s\" }", ""));
    let trial = client(&target_of(&path, &server.url, "")).probe(Timestamp::now()).await;
    assert_eq!(trial.answer.verdict.reason.to_string(), "timeout");
}
