//! Templates: what they build, and what they refuse.

use serde_json::json;

use super::*;
use crate::config::description::Tree as Source;
use crate::event::ToJson as _;

fn source(json: &Json) -> Source {
    match json {
        Json::Bool(flag) => Source::Flag(*flag),
        Json::Number(number) => Source::Integer(number.as_i64().unwrap()),
        Json::String(text) => Source::Text(text.clone()),
        Json::Array(items) => Source::List(items.iter().map(source).collect()),
        Json::Object(members) => {
            let sorted: std::collections::BTreeMap<_, _> = members.iter().collect();
            Source::Table(sorted.into_iter().map(|(key, tree)| (key.clone(), source(tree))).collect())
        }
        Json::Null => panic!("TOML has no null"),
    }
}

fn record() -> Json {
    serde_json::from_str(
        r#"{"subject":"He said \"no\"\n\u202e🙂 {{ 7 * 7 }} {% raw %}","total_amount":"12345678901234567890.123456789","tax":"0.10",
            "due_date":"2026-05-01","none":null,"empty":"","count":3,"exact":0.1000,"big":123456789012345678901234567890,
            "at":"2026-12-31T23:59:59.5Z","lines":[{"amount":"1.50","text":"a"},{"amount":"2.25","text":null}]}"#,
    )
    .unwrap()
}

fn build(tree: &Json) -> Result<Json, String> {
    let mut templates = Templates::new(Dialect::Strict);
    let tree = Tree::compile(&mut templates, "t", &source(tree)).map_err(|error| error.to_string())?;
    let mut scope = Scope::new();
    scope.set("record", &record());
    scope.set("settings", &json!({"accounts": {"travel": "7000"}, "account": "6000"}));
    tree.build(&templates, &scope, &record()).map_err(|error| error.to_string())
}

#[test]
fn trees_are_built() {
    for (tree, built) in [
        (json!("plain { text }"), json!("plain { text }")),
        (json!({"a": 1, "b": true}), json!({"a": 1, "b": true})),
        // A field is one value, whatever it holds.
        (json!({"s": "{{ record.subject }}"}), json!({"s": record()["subject"]})),
        (json!("[{{ record.subject }}]"), json!(format!("[{}]", record()["subject"].as_str().unwrap()))),
        // Types stay.
        (json!("{{ record.count }}"), json!(3)),
        (json!("{{ record.count }}!"), json!("3!")),
        (json!("{{ record.lines }}"), record()["lines"].clone()),
        (json!("{{ record }}"), record()),
        // Null members go, null items stay.
        (json!({"a": "{{ record.none }}", "b": "{{ record.empty }}"}), json!({"b": ""})),
        (json!(["{{ record.none }}", "{{ none }}"]), json!([null, null])),
        (json!("{{ record.none | default('x') }}"), json!("x")),
        (json!("{{ record.empty | default('x') }}"), json!("")),
        (json!("{{ record.empty | default('x', true) }}"), json!("x")),
        (json!("{{ record.nowhere | default('x') }}"), json!("x")),
        (json!("{{ settings.accounts['travel'] | default(settings.account) }}"), json!("7000")),
        (json!("{{ settings.accounts['rent'] | default(settings.account) }}"), json!("6000")),
        (json!("{{ settings.accounts[record.none] | default(settings.account) }}"), json!("6000")),
        // Keys are templates too.
        (json!({"{{ settings.account }}": 1}), json!({"6000": 1})),
        (
            json!({"$for": "line in record.lines", "$do": {"n": "{{ number }}", "a": "{{ line.amount | amount(2) | text }}"}}),
            json!([{"n": 1, "a": "1.50"}, {"n": 2, "a": "2.25"}]),
        ),
        (
            json!([0, {"$for": "line in record.lines", "$do": "{{ line.amount }}"}, {"$if": "record.empty", "$then": 1}]),
            json!([0, "1.50", "2.25"]),
        ),
        (json!({"$if": "record.count > 2", "$then": "many", "$else": "few"}), json!("many")),
        (json!({"$if": "record.count > 3", "$then": "many", "$else": "few"}), json!("few")),
        (json!("{{ record.due_date | date }}"), json!({"year": 2026, "month": 5, "day": 1})),
        (json!("{{ record.at | day }}"), json!("2026-12-31")),
        (json!("{{ record.at | date_format('%Y%m%d') }}"), json!("20261231")),
        (json!("{{ record.due_date | date_format('%d.%m.%Y') }}"), json!("01.05.2026")),
        (json!("{{ record.due_date | epoch_ms }}"), json!(1_777_593_600_000_i64)),
        (json!("{{ record.at | epoch_ms }}"), json!(1_798_761_599_500_i64)),
        (json!("{{ \"it's\" | doubled(\"'\") }}"), json!("it''s")),
        (json!("{{ 'a\"b\\\\' | backslashed('\"') }}"), json!("a\\\"b\\\\")),
        (json!("{{ 'a b/c' | allowed('-') }}"), json!("a_b_c")),
        (json!("{{ 'abc' | hashed(8) }}"), json!("ba7816bf")),
        (json!("{{ record.lines | json }}"), json!(record()["lines"].to_string())),
        (json!("{{ 'grüße' | cut(3, 'x') }}"), json!("grü")),
        (json!("{{ 'grüße' | at_most(5) }}"), json!("grüße")),
    ] {
        assert_eq!(build(&tree).as_ref(), Ok(&built), "{tree}");
    }
}

#[test]
fn numbers_stay_exact() {
    for (tree, text) in [
        ("{{ record.total_amount | number }}", "12345678901234567890.123456789"),
        ("{{ record.total_amount | amount(9) }}", "12345678901234567890.123456789"),
        ("{{ record.tax | number }}", "0.1"),
        ("{{ record.tax | amount(2) }}", "0.10"),
        ("{{ record.count | amount(2) }}", "3.00"),
        ("{{ '-7' | amount(0) }}", "-7"),
        ("{{ record.exact }}", "0.1000"),
        ("{{ record.big }}", "123456789012345678901234567890"),
        ("{{ record.total_amount | minus(record.tax) }}", "12345678901234567890.023456789"),
        ("{{ record.tax | plus('0.2') }}", "0.3"),
        ("{{ record.lines | map(attribute='amount') | total }}", "3.75"),
    ] {
        assert_eq!(build(&json!(tree)).unwrap().to_string(), text, "{tree}");
        assert_eq!(build(&json!(format!("{tree}!"))).unwrap(), json!(format!("{text}!")), "{tree}");
    }
}

#[test]
fn what_is_not_there_or_does_not_fit_is_refused() {
    for (tree, what) in [
        ("{{ record.nowhere }}", "undefined"),
        ("x{{ record.nowhere }}", "undefined"),
        ("x{{ record.none }}", "is null"),
        ("x{{ record.lines }}", "cannot stand in a text"),
        ("{{ record.nowhere.deeper }}", "undefined"),
        ("{{ record.total_amount | amount(2) }}", "has more decimals than the 2 that the target takes"),
        ("{{ record.subject | number }}", "is not a decimal number"),
        ("{{ record.none | amount(2) }}", "is null, where a number is needed"),
        ("{{ 1 / 3 }}", "may not be exact"),
        ("{{ record.empty | required('subject') }}", "the record has no subject"),
        ("{{ record.none | required('subject') }}", "the record has no subject"),
        ("{{ 'abcd' | at_most(3) }}", "has 4 characters, the target takes 3"),
        ("{{ record.subject | date }}", "is no date"),
        ("{{ record.subject", "t: "),
        ("{{ record.subject | nofilter }}", "no filter is called `nofilter`"),
        ("{% if false %}{{ 'a | b' | upper |nofilter }}{% endif %}", "no filter is called `nofilter`"),
        ("{% if '|nofilter' | nowhere %}{% endif %}", "no filter is called `nowhere`"),
        ("{% for x in record.lines %}", "t: "),
    ] {
        let refused = build(&json!(tree)).expect_err(tree);
        assert!(refused.contains(what), "{tree}: {refused}");
    }
    for tree in [
        json!({"$for": "record.lines", "$do": 1}),
        json!({"$for": "line in record.lines"}),
        json!({"$for": "line in record.count", "$do": 1}),
        json!({"$if": "true"}),
        json!({"$if": "record.nowhere", "$then": 1}),
        json!({"$if": "true", "$then": 1, "other": 2}),
    ] {
        assert!(build(&tree).is_err(), "{tree}");
    }
}

#[test]
fn paths_keep_their_segments() {
    let mut templates = Templates::new(Dialect::Strict);
    let path = templates.path("p", "/a/{{ x }}/b:{{ x }}").unwrap();
    let mut scope = Scope::new();
    for (value, shown) in [("1", "/a/1/b:1"), ("../%2e?#ä", "/a/..%2F%252e%3F%23%C3%A4/b:..%2F%252e%3F%23%C3%A4")] {
        scope.set("x", &json!(value));
        assert_eq!(templates.render(&path, &scope).unwrap(), shown);
    }
}

#[test]
fn answers_may_lack_anything() {
    let mut templates = Templates::new(Dialect::Chainable);
    let mut scope = Scope::new();
    scope.set("answer", &json!({"status": 200, "body": {"error": ["UserError", 1], "n": 5}}));
    for (expression, holds) in [
        ("answer.body.error", true),
        ("answer.body.error[0] == 'UserError'", true),
        ("answer.body.fault.code == 7", false),
        ("answer.body.fault.code is defined", false),
        ("answer.body.n > 4 and not answer.body.fault", true),
        ("'Error' in answer.body.error[0]", true),
    ] {
        let compiled = templates.expression("e", expression).unwrap();
        assert_eq!(templates.holds(&compiled, &scope), Ok(holds), "{expression}");
    }
    assert!(templates.expression("e", "answer.body }} {{ 1").is_err());
}

#[test]
fn what_is_cut_is_noted_once() {
    let mut templates = Templates::new(Dialect::Strict);
    let template =
        templates.text("t", "{{ x | cut(3, 'subject') }}{{ x | cut(3, 'subject') }}{{ x | cut(9, 'y') }}").unwrap();
    let mut scope = Scope::new();
    scope.set("x", &json!("abcdef"));
    assert_eq!(templates.render(&template, &scope).unwrap(), "abcabcabcdef");
    assert_eq!(scope.notes(), ["subject cut from 6 to 3 characters"]);
}

/// What is taken from a record beside the engine, and what the engine is told of it bit by bit, is what it would make of
/// the record's whole JSON.
#[test]
fn members_of_a_record_are_those_of_its_json() {
    let mut tried = 0;
    for record in crate::avro::tests::records::records(3).into_iter().map(Arc::new) {
        let json = record.to_json();
        let (mut by_member, mut whole) = (Scope::new(), Scope::new());
        by_member.set_members("record", Arc::<Record>::clone(&record));
        whole.set("record", &json);
        let names = json.as_object().unwrap().keys().map(String::as_str);
        let odd = ["nowhere", "0", "r#type", "none", "items", "event_id.deeper", "validation[0]", "a b"];
        let each = names.chain(odd).map(|name| format!("record.{name}"));
        let all =
            ["record", "record | length", "record.items() | list", "record | json", "record.nowhere | default('x')"];
        for expression in each.chain(all.map(str::to_owned)) {
            for tree in ["{{ @ }}", "{{@}}", "{{- @ -}}", "{{ (@) }}", "{% for x in [@] %}{{ x | json }}{% endfor %}"] {
                let tree = tree.replace('@', &expression);
                let mut templates = Templates::new(Dialect::Strict);
                let source = Source::Text(tree.clone());
                let Ok(compiled) = Tree::compile(&mut templates, "t", &source) else { continue };
                tried += 1;
                // Without a record beside the scope, all but the whole record goes through the engine.
                let engine = compiled.build(&templates, &whole, &Json::Null);
                // As text: equal tables may differ in their members' order.
                let text = |built: Result<Json, TemplateError>| built.map(|json| json.to_string());
                let expected = text(if compiled.is_record() { Ok(json.clone()) } else { engine });
                assert_eq!(text(compiled.build(&templates, &by_member, &*record)), expected, "{tree}");
                assert_eq!(text(compiled.build(&templates, &whole, &json)), expected, "{tree}");
            }
        }
    }
    assert!(tried > 500, "{tried}");
}

#[test]
fn no_item_hides_the_record() {
    let hidden = build(&json!({"$for": "record in record.lines", "$do": "{{ record.amount }}"}));
    assert!(hidden.unwrap_err().contains("cannot be called `record`"));
}
