//! What would be sent, as commands that send it.

use std::fmt::Write as _;

use super::{Load, SendError, SendPlan};
use crate::config::{Encoding, KeyForm, Part, Scheme};

/// One command for each event type of the plan: the request with its signature for curl, and how openssl makes the same
/// signature. The secret itself is not in it; `$SECRET` stands where openssl wants it.
///
/// # Errors
/// When the plan could not be carried out either.
pub fn dry_run(plan: SendPlan) -> Result<String, SendError> {
    let load = Load::new(plan)?;
    let plan = &load.plan;
    let scheme = &plan.source.scheme;
    let types = if plan.body.is_some() { &plan.event_types[..1] } else { &plan.event_types[..] };
    let mut text = String::new();
    for (n, name) in (0_u64..).zip(types) {
        let (_, event) = load.event(n);
        let what = if plan.body.is_some() { "the given body" } else { name };
        let body = body(&event.body);
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "# {what}, as source {} sends it; signed with secret {}{}. The signature by hand:",
            plan.source.name,
            load.secret_id,
            // A command that is kept for later is refused, which should surprise nobody.
            match scheme.timestamp {
                Some(_) => format!(", good for {} s", scheme.tolerance.as_secs()),
                None => String::new(),
            }
        );
        let now_s = jiff::Timestamp::now().as_second();
        let headers = load.headers(n, &event, now_s);
        let signed = match before_body(scheme, &headers, now_s) {
            before if before.is_empty() => body.clone(),
            before => format!("{{ printf %s {}; {body}; }}", quoted(&before)),
        };
        let _ = writeln!(text, "#   {} | {}", signed.replace('\n', "\n#   "), openssl(scheme));
        let _ = writeln!(
            text,
            "{body} | curl --request POST {} \\\n  --max-time {} \\\n  --header 'Content-Type: application/json' \\",
            quoted(&plan.url),
            plan.source.deadline.as_secs_f64(),
        );
        for (name, value) in headers {
            let _ = writeln!(text, "  --header {} \\", quoted(&format!("{name}: {value}")));
        }
        let _ = writeln!(text, "  --data-binary @-");
    }
    Ok(text)
}

/// Prints exactly these bytes in a shell.
fn body(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        // A shell cannot hold a NUL, and a terminal should not be sent control characters.
        Ok(text) if !text.contains(|c: char| c.is_control() && c != '\n') => format!("printf %s {}", quoted(text)),
        _ => {
            use base64::Engine as _;
            let encoded = base64::engine::general_purpose::STANDARD.encode(bytes);
            format!("printf %s '{encoded}' | base64 --decode")
        }
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// What is signed before the body.
fn before_body(scheme: &Scheme, headers: &[(String, String)], now_s: i64) -> String {
    let header = |name: &String| headers.iter().find(|(there, _)| there == name).map(|(_, value)| value.clone());
    let parts = scheme.before_body.iter().map(|part| match part {
        Part::Text(text) => text.clone(),
        Part::Timestamp => now_s.to_string(),
        Part::Id => scheme.id_header.as_ref().and_then(header).unwrap_or_default(),
    });
    parts.collect()
}

fn openssl(scheme: &Scheme) -> String {
    let digest = scheme.algorithm.as_str().trim_start_matches("hmac-");
    let key = match scheme.key {
        KeyForm::Text => "-hmac \"$SECRET\"".to_owned(),
        KeyForm::Whsec => {
            let hex = "printf %s \"${SECRET#whsec_}\" | base64 --decode | od -An -v -tx1 | tr -d ' \\n'";
            format!("-mac HMAC -macopt hexkey:\"$({hex})\"")
        }
    };
    match scheme.encodings.first() {
        Some(Encoding::Base64) => format!("openssl dgst -{digest} {key} -binary | base64 --wrap 0"),
        Some(Encoding::Hex) | None => format!("openssl dgst -{digest} {key} -r"),
    }
}
