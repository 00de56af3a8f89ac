//! Requests by a proxy: what goes by it and what does not, and what its faults mean. The proxy is a stand-in that fails
//! on purpose.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ledgerhook::config::Config;
use ledgerhook::event::{AttemptOutcome, Timestamp};
use ledgerhook::targets::{Answer, Client, Scope};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use super::{CA, feed, server};
use crate::common::process::{PROGRAM, command};
use crate::common::scripted::{Said, Scripted};

const LOGIN: &str = "clerk:canary-7:11";
const LOGIN_ENCODED: &str = "Y2xlcms6Y2FuYXJ5LTc6MTE=";

/// What the proxy does with a request that it lets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    /// Passes it on.
    Pass,
    /// Answers by itself with this status and, as some do, with what it was sent.
    Status(u16),
    /// Never answers.
    Silent,
    /// Ends the connection.
    Cut,
}

struct Forward {
    url: String,
    /// Head of every request and tunnel, as it came.
    heads: Arc<Mutex<Vec<String>>>,
}

impl Forward {
    /// A proxy in this mood, with a login or for all.
    async fn start(mood: Mood, login: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&heads);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(forward(stream, mood, login, Arc::clone(&seen)));
            }
        });
        Self { url, heads }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    /// First line of every head.
    fn lines(&self) -> Vec<String> {
        self.heads().iter().map(|head| head.lines().next().unwrap_or_default().to_owned()).collect()
    }
}

async fn forward(mut stream: TcpStream, mood: Mood, login: Option<&str>, heads: Arc<Mutex<Vec<String>>>) {
    let mut read = Vec::new();
    let end = loop {
        if let Some(at) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if !stream.read_buf(&mut read).await.is_ok_and(|n| n > 0) {
            return;
        }
    };
    let head = String::from_utf8_lossy(&read[..end]).into_owned();
    heads.lock().unwrap().push(head.clone());
    let let_in = login.is_none_or(|login| head.to_lowercase().contains(&format!("basic {login}").to_lowercase()));
    let say = |status: u16| {
        let length = head.len();
        format!("HTTP/1.1 {status} Said\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{head}")
    };
    match mood {
        _ if !let_in => drop(stream.write_all(say(407).as_bytes()).await),
        Mood::Status(status) => drop(stream.write_all(say(status).as_bytes()).await),
        Mood::Cut => {}
        Mood::Silent => tokio::time::sleep(Duration::from_secs(60)).await,
        Mood::Pass => {
            let mut words = head.split(' ');
            let (method, to) = (words.next().unwrap(), words.next().unwrap().to_owned());
            let tunnel = method == "CONNECT";
            let authority = to.trim_start_matches("http://").split('/').next().unwrap().to_owned();
            let Ok(mut target) = TcpStream::connect(&authority).await else { return };
            if tunnel {
                stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
            } else {
                let path = to.trim_start_matches("http://").trim_start_matches(&authority);
                target.write_all(head.replacen(&to, path, 1).as_bytes()).await.unwrap();
                target.write_all(&read[end..]).await.unwrap();
            }
            drop(copy_bidirectional(&mut stream, &mut target).await);
        }
    }
}

fn client(url: &str, more: &str) -> Client {
    let toml = format!(
        r#"
[targets.erp]
preset = "sandbox"
records = ["feeds"]
start = "now"
url = "{url}"
timeout = "5s"
connect_timeout = "1s"
{more}
"#
    );
    let env = |name: &str| {
        Some(match name {
            "CA" => CA.to_owned(),
            "LOGIN" => LOGIN.to_owned(),
            "WRONG" => "clerk:wrong-canary".to_owned(),
            _ => "canary".to_owned(),
        })
    };
    drop(rustls::crypto::ring::default_provider().install_default());
    let config = Config::parse(&toml, "test.toml", &env, &[]).unwrap_or_else(|faults| panic!("{faults}"));
    let shown = format!("{:?}", config.targets["erp"]);
    assert!(!shown.contains("canary-7") && !shown.contains(LOGIN_ENCODED), "{shown}");
    Client::new(&config.targets["erp"]).unwrap()
}

async fn send(url: &str, more: &str) -> Answer {
    client(url, more).send(&Arc::new(feed()), Timestamp::now(), false).await
}

fn by(proxy: &Forward, more: &str) -> String {
    format!("proxy = \"{}\"\n{more}", proxy.url)
}

/// Outcome, scope, reason, and whether the target may have the record.
fn shown(answer: &Answer) -> (AttemptOutcome, Scope, String, bool) {
    let verdict = &answer.verdict;
    (verdict.outcome, verdict.scope, verdict.reason.to_string(), verdict.leaves_doubt())
}

const OWN_CA: &str = r#"tls = { ca = "env:CA" }"#;

#[tokio::test(flavor = "multi_thread")]
async fn https_goes_through_a_tunnel_and_http_as_a_whole_address() {
    let port = server(false);
    let proxy = Forward::start(Mood::Pass, None).await;
    let answer = send(&format!("https://localhost:{port}/"), &by(&proxy, OWN_CA)).await;
    assert_eq!((answer.status, answer.excerpt.as_deref()), (Some(200), Some("ok")), "{answer:?}");
    assert_eq!(proxy.lines(), [format!("CONNECT localhost:{port} HTTP/1.1")]);
    assert!(!proxy.heads()[0].to_lowercase().contains("authorization"), "{:?}", proxy.heads());
    // The certificate is the target's, whoever passes it on.
    let answer = send(&format!("https://localhost:{port}/"), &by(&proxy, "")).await;
    assert_eq!(shown(&answer), (AttemptOutcome::Retry, Scope::Target, "connect_failed".to_owned(), false));

    let target = Scripted::start(|_| Said::Json(201, json!({}))).await;
    let proxy = Forward::start(Mood::Pass, None).await;
    let answer = send(&target.url, &by(&proxy, "")).await;
    assert_eq!((answer.status, target.calls().len()), (Some(201), 1), "{answer:?}");
    assert_eq!(proxy.lines(), [format!("POST {} HTTP/1.1", target.url)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_is_told_who_we_are_and_a_wrong_login_pauses_the_target() {
    let port = server(false);
    let target = Scripted::start(|_| Said::Json(201, json!({}))).await;
    let proxy = Forward::start(Mood::Pass, Some(LOGIN_ENCODED)).await;
    let https = format!("https://localhost:{port}/");
    for (url, more, status) in [(https.as_str(), OWN_CA, 200), (target.url.as_str(), "", 201)] {
        let login = |name: &str| by(&proxy, &format!("proxy_login = \"env:{name}\"\n{more}"));
        let answer = send(url, &login("LOGIN")).await;
        assert_eq!(answer.status, Some(status), "{answer:?}");
        let before = target.calls().len();
        for wrong in [login("WRONG"), by(&proxy, more)] {
            let answer = send(url, &wrong).await;
            let refused = (AttemptOutcome::Credentials, Scope::Target, "proxy_login_refused".to_owned(), false);
            assert_eq!(shown(&answer), refused, "{answer:?}");
            assert_eq!((answer.status, answer.excerpt.as_ref()), (None, None), "it is not the target's answer");
            assert!(!format!("{answer:?}").contains("canary"), "{answer:?}");
        }
        assert_eq!(target.calls().len(), before, "nothing was sent to the target");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_on_the_way_to_the_target_mean_that_nothing_was_sent() {
    let nothing_sent = (AttemptOutcome::Retry, Scope::Target, "connect_failed".to_owned(), false);
    let port = server(false);
    let https = format!("https://localhost:{port}/");
    for mood in [Mood::Status(403), Mood::Status(502), Mood::Status(504), Mood::Silent, Mood::Cut] {
        let proxy = Forward::start(mood, None).await;
        let answer = send(&https, &by(&proxy, OWN_CA)).await;
        assert_eq!(shown(&answer), nothing_sent, "{mood:?}: {answer:?}");
        assert_eq!(proxy.lines().len(), 1, "{mood:?}");
    }
    let away = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let target = Scripted::start(|_| Said::Json(201, json!({}))).await;
    for url in [https.as_str(), target.url.as_str()] {
        for proxy in [format!("http://{away}"), "http://proxy.invalid:3128".to_owned()] {
            let answer = send(url, &format!("proxy = \"{proxy}\"\n{OWN_CA}")).await;
            assert_eq!(shown(&answer), nothing_sent, "{proxy}: {answer:?}");
        }
    }
    assert!(target.calls().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_repeats_what_it_was_sent_gives_nothing_away() {
    let proxy = Forward::start(Mood::Status(502), Some(LOGIN_ENCODED)).await;
    let answer = send("http://127.0.0.1:1/", &by(&proxy, "proxy_login = \"env:LOGIN\"")).await;
    // Of a plain request nobody knows whether proxy or target failed.
    assert_eq!(shown(&answer), (AttemptOutcome::Retry, Scope::Record, "http_502".to_owned(), true));
    let text = format!("{answer:?}");
    assert!(text.contains("***") && !text.contains(LOGIN_ENCODED) && !text.contains("canary-7"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guard_holds_behind_a_proxy_as_far_as_it_sees() {
    let proxy = Forward::start(Mood::Status(403), None).await;
    let guarded = "allow_private_addresses = false";
    for inside in [
        "http://127.0.0.1:9/",
        "https://10.0.0.1/",
        "http://169.254.169.254/latest/meta-data",
        "https://[::1]:8443/",
        // The same name means the same here and, as a rule, there.
        "http://localhost:9/",
        "https://localhost:9/",
    ] {
        let answer = send(inside, &by(&proxy, guarded)).await;
        let refused = (AttemptOutcome::Retry, Scope::Target, "address_refused".to_owned(), false);
        assert_eq!(shown(&answer), refused, "{inside}: {answer:?}");
    }
    assert_eq!(proxy.lines(), [""; 0], "the proxy was not asked");
    // A name that means nothing here is for the proxy, whose own address is private.
    let answer = send("https://erp.invalid/", &by(&proxy, guarded)).await;
    assert_eq!(shown(&answer).2, "connect_failed", "{answer:?}");
    assert_eq!(proxy.lines(), ["CONNECT erp.invalid:443 HTTP/1.1"]);
}

/// The program's own process, since variables are for all of it.
#[tokio::test(flavor = "multi_thread")]
async fn variables_of_the_environment_divert_nothing() {
    let proxy = Forward::start(Mood::Status(403), None).await;
    let own = Forward::start(Mood::Pass, None).await;
    let target = Scripted::start(|_| Said::Json(200, json!({}))).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ledgerhook.toml");
    for (more, expected) in [(String::new(), 0), (by(&own, ""), 1)] {
        let text = format!(
            "[targets.sandbox]\nrecords = [\"feeds\"]\nstart = \"now\"\nurl = \"{}\"\nsigning_secret = \"env:TEST_SIGNING_SECRET\"\n{more}\n",
            target.url
        );
        std::fs::write(&file, text).unwrap();
        let variables: Vec<(&str, &str)> =
            ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]
                .into_iter()
                .map(|name| (name, proxy.url.as_str()))
                // A proxy of the configuration is not left out either.
                .chain([("NO_PROXY", "127.0.0.1"), ("no_proxy", "127.0.0.1")].into_iter().filter(|_| expected == 1))
                .collect();
        let mut command = command(&file, &["targets", "test", "sandbox"], &variables);
        // With this one, a client that asks the environment would not use HTTP_PROXY.
        command.env_remove("REQUEST_METHOD");
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        assert!(output.status.success(), "{PROGRAM}: {output:?}");
        assert_eq!((proxy.lines().len(), own.lines().len()), (0, expected), "{output:?}");
    }
    assert_eq!(target.calls().len(), 2);
}
