//! What would be sent, as commands that send it.

use std::fmt::Write as _;

use super::{Load, SendError, SendPlan};
use crate::config::{Algorithm, Encoding};

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
            "# {what}, as source {} sends it; signed with secret {}. The signature by hand:",
            plan.source.name, load.secret_id
        );
        let _ =
            writeln!(text, "#   {} | {}", body.replace('\n', "\n#   "), openssl(scheme.algorithm, &scheme.encodings));
        let _ = writeln!(
            text,
            "{body} | curl --request POST {} \\\n  --max-time {} \\\n  --header 'Content-Type: application/json' \\\n  --header {} \\\n  --data-binary @-",
            quoted(&plan.url),
            plan.source.deadline.as_secs_f64(),
            quoted(&format!("{}: {}", scheme.header, load.sign(&event.body))),
        );
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

fn openssl(algorithm: Algorithm, encodings: &[Encoding]) -> String {
    let digest = algorithm.as_str().trim_start_matches("hmac-");
    match encodings.first() {
        Some(Encoding::Base64) => format!("openssl dgst -{digest} -hmac \"$SECRET\" -binary | base64 --wrap 0"),
        Some(Encoding::Hex) | None => format!("openssl dgst -{digest} -hmac \"$SECRET\" -r"),
    }
}
