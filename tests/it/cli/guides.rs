//! The providers' guides by hand: a body signed with openssl and sent with curl.

use std::path::Path;
use std::process::Command;

use super::json;
use crate::common::process::Process;
use crate::common::{ACCBOOKS_SECRET, ACCELEX_SECRET, Installation, cannot, install};

/// What a tool prints; none where it is not installed.
fn tool(name: &str, args: &[&str]) -> Option<String> {
    match Command::new(name).args(args).output() {
        Ok(ran) => {
            assert!(ran.status.success(), "{name} {args:?}: {}", String::from_utf8_lossy(&ran.stderr));
            Some(String::from_utf8(ran.stdout).unwrap())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            cannot(&format!("{name} is not installed"));
            None
        }
        Err(error) => panic!("{name}: {error}"),
    }
}

fn signature(secret: &str, body: &Path) -> Option<String> {
    let told = tool("openssl", &["dgst", "-sha256", "-hmac", secret, body.to_str().unwrap()])?;
    Some(told.trim().rsplit_once("= ").unwrap().1.to_owned())
}

fn post(url: &str, header: &str, body: &Path) -> Option<(String, serde_json::Value)> {
    let data = format!("@{}", body.display());
    let told = tool(
        "curl",
        &["-sS", "-X", "POST", url, "-H", "Content-Type: application/json", "-H", header, "--data-binary", &data]
            .into_iter()
            .chain(["--max-time", "20", "-w", "\n%{http_code}"])
            .collect::<Vec<_>>(),
    )?;
    let (body, status) = told.rsplit_once('\n').unwrap();
    Some((status.to_owned(), json(body)))
}

async fn keys(installation: &Installation, topic: &str) -> Vec<String> {
    let rows = installation.records(topic).await;
    let mut keys: Vec<String> = rows.iter().map(|r| String::from_utf8(r.key.clone().unwrap()).unwrap()).collect();
    keys.sort();
    keys
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_made_by_hand_is_taken_and_a_changed_byte_is_not() {
    if tool("openssl", &["version"]).is_none() || tool("curl", &["--version"]).is_none() {
        return;
    }
    let installation = install("").await;
    let mut running = Process::start(&installation.file(), &["run", "--role", "receiver"], &[]);
    let receiver = running.address(&["the receiver listens"]).await;
    running.line(&["events go to Kafka"]).await;
    let body = installation.data_dir.path().join("body.json");
    for (source, secret, header, id) in [
        ("accelex", ACCELEX_SECRET, "X-AccelEx-Signature: ", "event_id"),
        ("accbooks", ACCBOOKS_SECRET, "AccBooks-Signature: sha256=", "id"),
    ] {
        let url = format!("http://{receiver}/api/{source}/webhook");
        let write = |id_value: &str, amount: &str| {
            let text =
                format!("{{\"{id}\": \"{id_value}\", \"event_type\": \"invoice.resolved\", \"amount\": {amount}}}\n");
            std::fs::write(&body, text).unwrap();
        };
        write("evt_1", "1250.00");
        let signed = format!("{header}{}", signature(secret, &body).unwrap());
        let (status, answer) = post(&url, &signed, &body).unwrap();
        assert_eq!((status.as_str(), answer["event_id"].as_str()), ("200", Some("evt_1")), "{answer}");

        for (id_value, amount) in [("evt_1", "1251.00"), ("evt_2", "1250.00")] {
            write(id_value, amount);
            let (status, answer) = post(&url, &signed, &body).unwrap();
            assert_eq!(status, "401", "{answer}");
            assert_eq!(answer["error"]["code"], "signature_invalid");
        }
        // The marker: had a refused request left anything, it would stand beside these two.
        write("marker", "1.00");
        let signed = format!("{header}{}", signature(secret, &body).unwrap());
        assert_eq!(post(&url, &signed, &body).unwrap().0, "200");
        assert_eq!(keys(&installation, &format!("received.{source}")).await, ["evt_1", "marker"]);
    }
    running.terminate();
    let ended = running.ended().await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}
