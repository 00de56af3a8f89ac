//! Schemas at the registry: registered once, compared, and refused whole where one cannot follow what is there.

use reqwest::StatusCode;
use serde_json::json;

use crate::common::process::run;
use crate::common::{bare, servers};

#[tokio::test(flavor = "multi_thread")]
async fn schemas_are_registered_once() {
    let bare = bare("").await;
    let file = bare.file();
    let checked = run(&file, &["schemas", "check"]).await;
    assert_eq!((checked.code, checked.stdout.as_str()), (Some(1), ""), "{checked:?}");
    assert_eq!(checked.stderr.matches(" is not registered; ").count(), bare.ground.topics.len(), "{checked:?}");
    assert!(checked.stderr.contains("`ledgerhook schemas apply`"), "{checked:?}");
    let applied = run(&file, &["schemas", "apply"]).await;
    assert_eq!(applied.code, Some(0), "{applied:?}");
    let again = run(&file, &["schemas", "apply"]).await;
    assert_eq!((again.code, &again.stdout), (Some(0), &applied.stdout));
    let checked = run(&file, &["schemas", "check"]).await;
    assert_eq!((checked.code, &checked.stdout), (Some(0), &applied.stdout), "the same subjects with the same ids");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incompatible_schema_stops_all() {
    let bare = bare("").await;
    let file = bare.file();
    let registry = &servers::servers().registry_url;
    let client = reqwest::Client::new();
    let subject = |topic: &str| format!("{}-value", bare.ground.cluster.topic(topic));
    let strange =
        r#"{"type":"record","name":"InvoiceRecord","namespace":"io.ledgerhook","fields":[{"name":"n","type":"int"}]}"#;
    let versions = |topic: &str| format!("{registry}/subjects/{}/versions", subject(topic));
    let request = client.post(versions("invoices")).body(json!({ "schema": strange }).to_string());
    let answer = request.header("content-type", "application/vnd.schemaregistry.v1+json").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    for args in [["schemas", "check"], ["schemas", "apply"]] {
        if args[1] == "apply" {
            // A registry whose default lets everything in must not decide for us.
            let lax = client.put(format!("{registry}/config/{}", subject("invoices")));
            let lax = lax
                .header("content-type", "application/json")
                .body(r#"{"compatibility":"NONE"}"#)
                .send()
                .await
                .unwrap();
            assert_eq!(lax.status(), StatusCode::OK);
        }
        let refused = run(&file, &args).await;
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""), "{refused:?}");
        let line = refused.stderr.lines().find(|line| line.starts_with(&format!("error: {}: ", subject("invoices"))));
        assert!(line.unwrap().contains("compatible with"), "{}", refused.stderr);
    }
    for topic in bare.ground.topics.iter().filter(|topic| topic.name != "invoices") {
        let answer = client.get(versions(&topic.name)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "nothing is registered for {}", topic.name);
    }
    let left: Vec<u32> = client.get(versions("invoices")).send().await.unwrap().json().await.unwrap();
    assert_eq!(left, [1]);
}
