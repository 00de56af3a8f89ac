//! The program as a user meets it: real processes, real servers, what is printed and how it exits.
#![expect(clippy::unwrap_used, reason = "the lint's allowance for tests does not reach their helpers")]

mod away;
mod guides;
mod layout;
mod path;
mod schemas;
mod targets;
mod usage;

use serde_json::Value;

/// Status and body of a GET.
async fn get(address: &str, path: &str) -> (u16, String) {
    let answer = reqwest::get(format!("http://{address}{path}")).await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}
