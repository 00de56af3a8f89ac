//! What each preset makes of its target's answers: the classification, as a table.

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::config::Config;
use crate::config::description::Meaning::{
    Absent, Credentials, Duplicate, RateLimited, Rejected, Retry, Success, Unknown,
};
use crate::targets::preset::Preset;

/// A preset, as `tests/it/targets/presets` configures it.
fn preset(name: &str) -> Preset {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/targets/presets");
    let text = std::fs::read_to_string(folder.join(format!("{name}.toml"))).unwrap();
    let text = text.replace("$TEMP", std::env::temp_dir().to_str().unwrap());
    let config = Config::parse(&text, name, &|_| Some("whsec_Y2FuYXJ5LTQ3MTE=".to_owned()), &[]);
    Preset::compile(&config.unwrap_or_else(|faults| panic!("{faults}")).targets["t"]).unwrap()
}

enum Of {
    /// The step of this name.
    Step(&'static str),
    LookUp,
}

fn judged(preset: &Preset, of: &Of, status: u16, headers: &[(&str, &str)], body: &str) -> Judged {
    judged_as_read(preset, of, status, headers, Some(body))
}

fn judged_as_read(preset: &Preset, of: &Of, status: u16, headers: &[(&str, &str)], body: Option<&str>) -> Judged {
    let plan = preset.any_plan();
    let own = match of {
        Of::LookUp => &plan.look_up.as_ref().unwrap().rules,
        Of::Step(name) => &plan.steps.iter().find(|step| step.name == *name).unwrap().rules,
    };
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let received = Received { status, headers, body: body.map(str::to_owned), excerpt: None };
    let mut scope = preset.bare();
    scope.set("answer", &received.to_json(&received.json()));
    judge(&preset.chainable, [own, &preset.rules], &scope, &received, Timestamp::from_micros(0))
}

/// Half of a body looks like another one, or like none.
#[test]
fn an_answer_that_did_not_come_whole_means_nothing_final() {
    use Of::{LookUp, Step};
    for (name, of, status, meaning, reason) in [
        ("agiloft", LookUp, 200, Unknown, "answer_unreadable"),
        ("request-tracker", Step("prove"), 200, Unknown, "answer_unreadable"),
        ("zendesk", Step("create"), 400, Unknown, "answer_unreadable"),
        // Where no rule looks at the body, its status says all.
        ("webhook", Step("post"), 200, Success, "http_200"),
        ("webhook", Step("post"), 422, Rejected, "http_422"),
        // Nor is anything lost by what is not final as it is.
        ("zendesk", Step("create"), 429, RateLimited, "http_429"),
        ("zendesk", Step("create"), 503, Retry, "http_503"),
    ] {
        let judged = judged_as_read(&preset(name), &of, status, &[], None);
        assert_eq!((judged.meaning, judged.verdict.reason.to_string().as_str()), (meaning, reason), "{name} {status}");
    }
}

#[test]
fn the_presets_own_rules() {
    use Of::{LookUp, Step};
    let netsuite = |code: &str| json!({"o:errorDetails": [{"detail": "x", "o:errorCode": code}]});
    let salesforce = |code: &str| json!([{"errorCode": code, "message": "x"}]);
    let create = || Step("create");
    let rows = [
        ("zendesk", create(), 201, json!({"ticket": {"id": 1}}), Success, "http_201"),
        (
            "zendesk",
            create(),
            400,
            json!({"error": "IdempotencyKeyMismatch", "description": "Idempotency key reused"}),
            Duplicate,
            "key_used",
        ),
        ("zendesk", create(), 400, json!({"error": "BadRequest"}), Rejected, "http_400"),
        ("zendesk", create(), 409, json!({"error": "DatabaseConflict"}), Retry, "conflict"),
        ("zendesk", create(), 422, json!({"error": "RecordInvalid"}), Rejected, "http_422"),
        ("zendesk", LookUp, 404, json!({}), Rejected, "http_404"),
        ("ironclad", create(), 200, json!({"id": "r"}), Success, "http_200"),
        ("ironclad", create(), 400, json!({"code": "INVALID_PARAM"}), Rejected, "http_400"),
        ("ironclad", create(), 429, json!({}), RateLimited, "http_429"),
        ("salesforce-case", Step("upsert"), 204, json!(null), Success, "http_204"),
        ("salesforce-case", Step("upsert"), 300, json!(["/a", "/b"]), Rejected, "ambiguous_key"),
        (
            "salesforce-case",
            Step("upsert"),
            403,
            salesforce("REQUEST_LIMIT_EXCEEDED"),
            RateLimited,
            "request_limit_exceeded",
        ),
        ("salesforce-case", Step("upsert"), 403, salesforce("INSUFFICIENT_ACCESS"), Rejected, "http_403"),
        ("salesforce-case", Step("upsert"), 403, salesforce("API_DISABLED_FOR_ORG"), Credentials, "http_403"),
        ("salesforce-case", Step("upsert"), 401, salesforce("INVALID_SESSION_ID"), Credentials, "http_401"),
        ("salesforce-case", Step("upsert"), 400, salesforce("UNABLE_TO_LOCK_ROW"), Retry, "unable_to_lock_row"),
        ("salesforce-case", Step("upsert"), 400, salesforce("REQUIRED_FIELD_MISSING"), Rejected, "http_400"),
        ("salesforce-case", Step("upsert"), 503, json!(null), Retry, "http_503"),
        ("jira-service-management", create(), 201, json!({"issueKey": "A-1"}), Success, "http_201"),
        ("jira-service-management", create(), 400, json!({"errorMessage": "no such field"}), Rejected, "http_400"),
        ("servicenow", create(), 201, json!({}), Success, "http_201"),
        (
            "servicenow",
            create(),
            403,
            json!({"error": {"detail": "Operation against file 'incident' was aborted by Business Rule"}}),
            Rejected,
            "business_rule",
        ),
        ("servicenow", create(), 403, json!({"error": {"message": "User Not Authorized"}}), Credentials, "http_403"),
        ("servicenow", create(), 429, json!({}), RateLimited, "http_429"),
        ("zammad", create(), 422, json!({"error": "Group not found"}), Rejected, "http_422"),
        ("zammad", LookUp, 200, json!([]), Success, "http_200"),
        ("xero", create(), 200, json!({"Invoices": [{"StatusAttributeString": "OK"}]}), Success, "http_200"),
        (
            "xero",
            create(),
            200,
            json!({"Invoices": [{"StatusAttributeString": "ERROR", "ValidationErrors": []}]}),
            Rejected,
            "validation",
        ),
        ("xero", create(), 400, json!({"Type": "ValidationException"}), Rejected, "http_400"),
        ("quickbooks", create(), 400, json!({"Fault": {"Error": [{"code": "6140"}]}}), Duplicate, "duplicate_number"),
        ("quickbooks", create(), 400, json!({"Fault": {"Error": [{"code": "2500"}]}}), Rejected, "http_400"),
        ("quickbooks", LookUp, 200, json!({"QueryResponse": {}}), Absent, "http_200"),
        ("quickbooks", LookUp, 200, json!({"QueryResponse": {"Bill": []}}), Success, "http_200"),
        ("netsuite", Step("upsert"), 204, json!(null), Success, "http_204"),
        ("netsuite", Step("upsert"), 400, netsuite("SSS_REQUEST_LIMIT_EXCEEDED"), RateLimited, "concurrency_limit"),
        ("netsuite", Step("upsert"), 400, netsuite("RCRD_HAS_BEEN_CHANGED"), Retry, "record_changed"),
        ("netsuite", Step("upsert"), 400, netsuite("INVALID_KEY_OR_REF"), Rejected, "http_400"),
        ("business-central", create(), 400, json!({"error": {"code": "Internal_DeadlockDetected"}}), Retry, "locked"),
        (
            "business-central",
            create(),
            400,
            json!({"error": {"code": "X", "message": "The record is locked by another user"}}),
            Retry,
            "locked",
        ),
        (
            "business-central",
            Step("post"),
            400,
            json!({"error": {"code": "Application_DialogException", "message": "already exists"}}),
            Rejected,
            "http_400",
        ),
        ("business-central", Step("post"), 204, json!(null), Success, "http_204"),
        ("odoo", create(), 422, json!({"name": "odoo.exceptions.UserError", "message": "x"}), Rejected, "refused"),
        (
            "odoo",
            create(),
            500,
            json!({"name": "odoo.exceptions.ValidationError", "message": "x"}),
            Rejected,
            "refused",
        ),
        ("odoo", create(), 500, json!({"name": "psycopg2.errors.SerializationFailure"}), Retry, "locked"),
        ("odoo", create(), 500, json!({"name": "builtins.KeyError"}), Retry, "http_500"),
        ("erpnext", create(), 409, json!({"exc_type": "DuplicateEntryError"}), Duplicate, "duplicate_entry"),
        ("erpnext", create(), 417, json!({"exc_type": "ValidationError"}), Rejected, "http_417"),
        ("erpnext", create(), 417, json!({"exc_type": "TimestampMismatchError"}), Retry, "locked"),
        ("erpnext", create(), 403, json!({"exc_type": "PermissionError"}), Rejected, "not_permitted"),
        ("erpnext", create(), 403, json!({}), Credentials, "http_403"),
        (
            "sap-s4hana",
            create(),
            400,
            json!({"error": {"message": {"value": "Supplier 4711 is locked by user X"}}}),
            Retry,
            "locked",
        ),
        ("sap-s4hana", create(), 400, json!({"error": {"code": "M8/462"}}), Duplicate, "duplicate_invoice"),
        ("sap-s4hana", create(), 400, json!({"error": {"code": "F5/104"}}), Rejected, "http_400"),
        ("docusign-clm", create(), 429, json!({"Error": {"ErrorCode": 103}}), RateLimited, "call_limit"),
        ("docusign-clm", create(), 422, json!({"Error": {"ErrorCode": 100}}), Rejected, "http_422"),
        ("webhook", Step("post"), 409, json!({}), Rejected, "http_409"),
        ("webhook", Step("post"), 202, json!({}), Success, "http_202"),
    ];
    for (name, of, status, body, meaning, reason) in rows {
        let judged = judged(&preset(name), &of, status, &[], &body.to_string());
        assert_eq!(
            (judged.meaning, judged.verdict.reason.to_string().as_str()),
            (meaning, reason),
            "{name} {status} {body}"
        );
        let doubt = judged.meaning == Unknown || (judged.meaning == Retry && status >= 500);
        assert_eq!(judged.verdict.leaves_doubt(), doubt, "{name} {status} {body}");
    }
    for (text, meaning) in
        [("EWREST_id_0='12';", Success), ("EWREST_id_length='0';", Absent), ("", Absent), ("<html>", Success)]
    {
        assert_eq!(judged(&preset("agiloft"), &LookUp, 200, &[], text).meaning, meaning, "{text}");
    }
}

#[test]
fn waits_are_read_where_the_target_tells_them() {
    let seconds = |n| Some(Duration::from_secs(n));
    let limited = json!([{"errorCode": "REQUEST_LIMIT_EXCEEDED"}]).to_string();
    let reset = [("x-ratelimit-reset", "Thu, 01 Jan 1970 00:02:00 GMT")];
    for (name, step, status, headers, body, wait) in [
        ("salesforce-case", "upsert", 403, &[][..], limited.as_str(), seconds(600)),
        ("quickbooks", "create", 429, &[], "", seconds(60)),
        ("docusign-clm", "create", 429, &reset, "", seconds(120)),
        ("zendesk", "create", 429, &[("retry-after", "93")], "", seconds(93)),
        ("zendesk", "create", 429, &[], "", None),
        ("jira-service-management", "create", 503, &[("retry-after", "7"), ("x-ratelimit-reset", "x")], "", seconds(7)),
    ] {
        let judged = judged(&preset(name), &Of::Step(step), status, headers, body);
        assert_eq!((judged.meaning, judged.verdict.retry_after), (RateLimited, wait), "{name}");
        assert_eq!(judged.verdict.scope, Whom::Target, "{name}");
    }
}

#[test]
fn the_presets_know_the_limits_of_their_targets() {
    let second = Duration::from_secs;
    for (name, status, headers, wait) in [
        ("zendesk", 201, vec![("x-rate-limit-remaining", "0"), ("ratelimit-reset", "41")], Some(second(41))),
        ("zendesk", 201, vec![("x-rate-limit-remaining", "699"), ("ratelimit-reset", "41")], None),
        (
            "jira-service-management",
            201,
            vec![("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1970-01-01T00:01:00Z")],
            Some(second(60)),
        ),
        ("jira-service-management", 429, vec![("x-ratelimit-reset", "1970-01-01T00:01Z")], Some(second(60))),
        ("docusign-clm", 429, vec![("x-ratelimit-reset", "1970-01-01T00:15:00Z")], Some(second(900))),
        ("sandbox", 429, vec![("x-ratelimit-reset", "60")], None),
    ] {
        let preset = preset(name);
        let create = preset.any_plan().steps[0].name.clone();
        let step = Of::Step(Box::leak(create.into_boxed_str()));
        let verdict = judged(&preset, &step, status, &headers, "{}").verdict;
        let owned = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let received = Received { status, headers: owned, ..Received::default() };
        let limits = preset.limits.as_ref();
        let spent =
            limits.and_then(|limits| crate::targets::limits::spent(limits, &received, &verdict, Timestamp::default()));
        assert_eq!(spent, wait, "{name} {status} {headers:?}");
    }
}
