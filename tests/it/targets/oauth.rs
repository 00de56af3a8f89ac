//! Tokens: an endpoint that expires them, changes refresh tokens, and fails.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use ledgerhook::config::{Config, Faults};
use ledgerhook::event::{AttemptOutcome, Record, Timestamp};
use ledgerhook::targets::{Answer, Client, ClientError, Scope};
use serde_json::json;

use super::described::{case, described};
use crate::common::scripted::{Call, Said, Scripted};

const SECRET: &str = "canary-client-secret";
const FIRST: &str = "canary-refresh-0";

fn description(grant: &str) -> String {
    format!(
        r#"
title = "CRM"
proved_on = "nothing"
[settings.tenant]
type = "text"
doc = "The tenant"
[secrets.client_secret]
doc = "Secret of the client"
[secrets.refresh_token]
doc = "Refresh token"
optional = true
[auth]
kind = "oauth2"
token_url = "{{{{ settings.tenant }}}}token"
client_id = "ledgerhook"
client_secret = "client_secret"
scope = "api"
{grant}
[id]
value = "{{{{ record.event_id }}}}"
max = 64
[idempotency]
class = "upsert"
[probe]
method = "GET"
path = "/me"
[[records.cases.steps]]
name = "put"
repeat = "upsert"
method = "PUT"
path = "/cases/{{{{ id }}}}"
json = {{ subject = "{{{{ record.subject }}}}" }}
"#
    )
}

const BY_CLIENT: &str =
    "grant = \"client_credentials\"\nclient_authentication = \"basic\"\nparameters = { audience = \"crm\" }";
const BY_REFRESH: &str =
    "grant = \"refresh_token\"\nclient_authentication = \"body\"\nrefresh_token = \"refresh_token\"";

/// A CRM whose tokens are `token-<n>`; only the newest counts, and of refresh tokens too.
#[derive(Default)]
struct Crm {
    issued: AtomicUsize,
    /// Which answer the endpoint gives in place of a token, if any.
    instead: Mutex<Option<Said>>,
    expires_in: Mutex<Option<serde_json::Value>>,
    revoked: AtomicUsize,
    /// Whether tokens take their time.
    slow: std::sync::atomic::AtomicBool,
}

impl Crm {
    fn answer(&self, call: &Call) -> Said {
        if call.path == "/token" {
            if let Some(instead) = self.instead.lock().unwrap().clone() {
                return instead;
            }
            let n = self.issued.load(Ordering::SeqCst);
            if call.form("grant_type").as_deref() == Some("refresh_token")
                && call.form("refresh_token") != Some(format!("canary-refresh-{n}"))
            {
                return Said::Json(400, json!({"error": "invalid_grant", "sent": call.form("refresh_token")}));
            }
            self.issued.store(n + 1, Ordering::SeqCst);
            let mut token = json!({"access_token": format!("canary-token-{}", n + 1), "token_type": "Bearer"});
            if let Some(seconds) = self.expires_in.lock().unwrap().clone() {
                token["expires_in"] = seconds;
            }
            if call.form("grant_type").as_deref() == Some("refresh_token") {
                token["refresh_token"] = json!(format!("canary-refresh-{}", n + 1));
            }
            return match self.slow.load(Ordering::SeqCst) {
                true => Said::Late(Duration::from_millis(500), Box::new(Said::Json(200, token))),
                false => Said::Json(200, token),
            };
        }
        let n = self.issued.load(Ordering::SeqCst);
        let good = call.header("authorization") == format!("Bearer canary-token-{n}")
            && n > self.revoked.load(Ordering::SeqCst);
        match good {
            true => Said::Json(200, json!({})),
            false => Said::Json(401, json!({"message": format!("expired: {}", call.header("authorization"))})),
        }
    }
}

async fn crm() -> (Arc<Crm>, Scripted) {
    let crm = Arc::new(Crm::default());
    let state = Arc::clone(&crm);
    (crm, Scripted::start(move |call| state.answer(call)).await)
}

fn config(grant: &str, url: &str, more: &str) -> Result<Config, Faults> {
    let (_folder, path) = described(&description(grant));
    let toml = format!(
        r#"
[targets.crm]
preset = "{}"
records = ["cases"]
start = "now"
url = "{url}"
allow_private_addresses = true
settings = {{ tenant = "{url}" }}
secrets = {{ client_secret = "env:SECRET", refresh_token = "env:REFRESH" }}
{more}
"#,
        path.display()
    );
    let env = |name: &str| Some(if name == "SECRET" { SECRET } else { FIRST }.to_owned());
    drop(rustls::crypto::ring::default_provider().install_default());
    Config::parse(&toml, "t.toml", &env, &[])
}

fn client(grant: &str, url: &str, more: &str) -> Result<Client, ClientError> {
    Client::new(&config(grant, url, more).unwrap_or_else(|faults| panic!("{faults}")).targets["crm"])
}

fn kept_in(path: &Path) -> String {
    format!("token_file = \"{}\"", path.display())
}

async fn send(client: &Client) -> Answer {
    client.send(&Arc::new(Record::from(case(1))), Timestamp::now(), false).await
}

fn asked(server: &Scripted) -> usize {
    server.lines().iter().filter(|line| *line == "POST /token").count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_token_is_fetched_for_all_who_wait() {
    let (_, server) = crm().await;
    let client = Arc::new(client(BY_CLIENT, &server.url, "").unwrap());
    let sends = (0..64).map(|_| {
        let client = Arc::clone(&client);
        tokio::spawn(async move { send(&client).await })
    });
    for send in sends.collect::<Vec<_>>() {
        assert_eq!(send.await.unwrap().verdict.outcome, AttemptOutcome::Delivered);
    }
    assert_eq!((asked(&server), server.calls().len()), (1, 65));
    let call = &server.calls()[0];
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("ledgerhook:{SECRET}"));
    assert_eq!(call.header("authorization"), format!("Basic {basic}"));
    let form = ["grant_type", "scope", "audience", "client_secret"].map(|name| call.form(name));
    assert_eq!(form, [Some("client_credentials".to_owned()), Some("api".to_owned()), Some("crm".to_owned()), None]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_token_that_expires_is_fetched_again_once_for_all() {
    let (crm, server) = crm().await;
    let client = Arc::new(client(BY_CLIENT, &server.url, "").unwrap());
    assert_eq!(send(&client).await.verdict.outcome, AttemptOutcome::Delivered);
    crm.revoked.store(1, Ordering::SeqCst);
    let sends = (0..32).map(|_| {
        let client = Arc::clone(&client);
        tokio::spawn(async move { send(&client).await })
    });
    for send in sends.collect::<Vec<_>>() {
        let answer = send.await.unwrap();
        assert_eq!(answer.verdict.outcome, AttemptOutcome::Delivered, "{answer:?}");
    }
    assert_eq!(asked(&server), 2);
    // One that is refused although it is new: our credentials, and no loop.
    crm.revoked.store(99, Ordering::SeqCst);
    let before = server.calls().len();
    let answer = send(&client).await;
    assert_eq!((answer.verdict.outcome, answer.verdict.scope), (AttemptOutcome::Credentials, Scope::Target));
    assert_eq!(server.calls().len() - before, 3);
    assert!(!format!("{answer:?}").contains("canary"), "{answer:?}");
}

#[tokio::test]
async fn the_end_of_a_token_is_kept() {
    for (expires_in, fetched) in [(json!(1), 2), (json!("1"), 2), (json!(3600), 1), (json!(null), 1)] {
        let (crm, server) = crm().await;
        *crm.expires_in.lock().unwrap() = Some(expires_in.clone());
        let client = client(BY_CLIENT, &server.url, "").unwrap();
        send(&client).await;
        tokio::time::sleep(Duration::from_millis(800)).await;
        assert_eq!(send(&client).await.verdict.outcome, AttemptOutcome::Delivered);
        assert_eq!(asked(&server), fetched, "{expires_in}");
        // Nobody had to be refused for it.
        assert_eq!(server.calls().len(), fetched + 2, "{expires_in}");
    }
}

#[tokio::test]
async fn a_refresh_token_that_changes_outlives_the_process() {
    let (crm, server) = crm().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("crm.token");
    for n in 1..=3 {
        // A new process each time, with the same old token in its configuration.
        let client = client(BY_REFRESH, &server.url, &kept_in(&file)).unwrap();
        let answer = send(&client).await;
        assert_eq!(answer.verdict.outcome, AttemptOutcome::Delivered, "{answer:?}");
        assert_eq!(crm.issued.load(Ordering::SeqCst), n);
        assert!(std::fs::read_to_string(&file).unwrap().contains(&format!("canary-refresh-{n}")));
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    // Another token in the configuration begins anew.
    crm.issued.store(0, Ordering::SeqCst);
    std::fs::write(&file, r#"{"origin_sha256":"another","refresh_token":"canary-refresh-9"}"#).unwrap();
    let answer = send(&client(BY_REFRESH, &server.url, &kept_in(&file)).unwrap()).await;
    assert_eq!(answer.verdict.outcome, AttemptOutcome::Delivered);
    // A damaged file is no reason to fall back on a token that may be void.
    std::fs::write(&file, "{").unwrap();
    let refused = client(BY_REFRESH, &server.url, &kept_in(&file)).err().unwrap().to_string();
    assert!(refused.contains("crm.token: is no file of ours"), "{refused}");
    // It has to be somewhere.
    let refused = config(BY_REFRESH, &server.url, "").unwrap_err().to_string();
    assert!(refused.contains("targets.crm.token_file: is missing"), "{refused}");
}

#[tokio::test]
async fn a_refresh_token_that_cannot_be_kept_is_not_used_up() {
    let (crm, server) = crm().await;
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().join("later/crm.token");
    let refused = client(BY_REFRESH, &server.url, &kept_in(&nowhere)).err().unwrap().to_string();
    assert!(refused.contains("crm.token: cannot be written"), "{refused}");
    assert_eq!(server.calls().len(), 0);

    // The disk fails later: nothing is sent on a token that a crash would lose, and the new one is not forgotten.
    std::fs::create_dir(nowhere.parent().unwrap()).unwrap();
    let client = client(BY_REFRESH, &server.url, &kept_in(&nowhere)).unwrap();
    // In the way of what is written beside it.
    let beside = nowhere.with_extension("new");
    std::fs::create_dir(&beside).unwrap();
    let answer = send(&client).await;
    assert_eq!(answer.verdict.reason.to_string(), "token_unavailable");
    assert!(answer.fault.unwrap().contains("cannot be kept in"));
    assert_eq!(server.lines(), ["POST /token"]);
    std::fs::remove_dir(&beside).unwrap();
    assert_eq!(send(&client).await.verdict.outcome, AttemptOutcome::Delivered);
    assert_eq!(crm.issued.load(Ordering::SeqCst), 2);
    assert!(std::fs::read_to_string(&nowhere).unwrap().contains("canary-refresh-2"));
}

/// `targets test` beside a deliverer, or two of these: each of them makes the token void that the others know.
#[tokio::test]
async fn processes_that_share_a_refresh_token_take_the_newest() {
    let (crm, server) = crm().await;
    crm.slow.store(true, Ordering::SeqCst);
    // At once out of date, so that each try fetches one.
    *crm.expires_in.lock().unwrap() = Some(json!(0));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("crm.token");
    let process = || client(BY_REFRESH, &server.url, &kept_in(&file)).unwrap();
    let (one, other) = (process(), process());
    for (n, client) in [&one, &other, &one, &one, &other].into_iter().enumerate() {
        assert_eq!(send(client).await.verdict.outcome, AttemptOutcome::Delivered, "{n}");
        assert!(std::fs::read_to_string(&file).unwrap().contains(&format!("canary-refresh-{}", n + 1)));
    }
    // Both at once: who comes second has what the first was given.
    let (first, second) = tokio::join!(send(&one), send(&other));
    for answer in [first, second] {
        assert_ne!(answer.verdict.reason.to_string(), "token_refused", "{answer:?}");
    }
}

#[tokio::test]
async fn a_refresh_token_is_not_lost_with_whoever_waited_for_it() {
    let (crm, server) = crm().await;
    crm.slow.store(true, Ordering::SeqCst);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("crm.token");
    let client = client(BY_REFRESH, &server.url, &kept_in(&file)).unwrap();
    // As a shutdown cuts a try.
    let cut = tokio::time::timeout(Duration::from_millis(200), send(&client)).await;
    assert!(cut.is_err() && !file.exists());
    assert_eq!(send(&client).await.verdict.outcome, AttemptOutcome::Delivered);
    assert_eq!(asked(&server), 1);
    assert!(std::fs::read_to_string(&file).unwrap().contains("canary-refresh-1"));
}

#[tokio::test]
async fn an_endpoint_that_fails_holds_the_target_and_gives_up_nothing() {
    use AttemptOutcome::{Credentials, Retry};
    for (said, outcome, reason) in [
        (Said::Text(500, Vec::new(), "oops".to_owned()), Retry, "token_unavailable"),
        (Said::Text(429, Vec::new(), String::new()), Retry, "token_unavailable"),
        (Said::Json(200, json!({"token_type": "Bearer"})), Retry, "token_unavailable"),
        (Said::Json(200, json!({"access_token": "a\nb"})), Retry, "token_unavailable"),
        (Said::Text(200, Vec::new(), "<html>".to_owned()), Retry, "token_unavailable"),
        (Said::Cut, Retry, "token_unavailable"),
        (Said::Json(400, json!({"error": "invalid_grant"})), Credentials, "token_refused"),
        (Said::Json(401, json!({"error": "invalid_client", "client_secret": SECRET})), Credentials, "token_refused"),
    ] {
        let (crm, server) = crm().await;
        *crm.instead.lock().unwrap() = Some(said.clone());
        let client = client(BY_CLIENT, &server.url, "").unwrap();
        let answer = send(&client).await;
        assert_eq!(
            (answer.verdict.outcome, answer.verdict.reason.to_string().as_str(), answer.verdict.scope),
            (outcome, reason, Scope::Target),
            "{said:?}"
        );
        assert!(!answer.verdict.leaves_doubt(), "nothing was sent: {said:?}");
        assert!(!format!("{answer:?}").contains("canary"), "{answer:?}");
        assert_eq!(server.lines(), ["POST /token"]);
        // It works again: so do we.
        *crm.instead.lock().unwrap() = None;
        assert_eq!(send(&client).await.verdict.outcome, AttemptOutcome::Delivered);
    }
}
