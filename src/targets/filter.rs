//! The user's filter: which records of its topics a target is sent. A name that no record has would be false for ever, and
//! so keep everything back without a word: names are looked at when the program starts.

use serde_json::Value as Json;

use super::template::{Compiled, TemplateError, Templates};
use crate::avro;
use crate::config::did_you_mean;
use crate::topics::RECORDS;

const PLACE: &str = "filter";
/// What a filter can ask for.
const ROOTS: [&str; 6] = ["attributes", "id", "record", "settings", "target", "topic"];

/// Compiles a filter of a target that takes records of `topics`.
///
/// # Errors
/// Where it is no expression, or names what is not there; with the place in it, and what may have been meant.
pub(super) fn compile(templates: &mut Templates, source: &str, topics: &[String]) -> Result<Compiled, TemplateError> {
    let compiled = templates.expression(PLACE, source)?;
    for name in templates.names(source) {
        let mut parts = name.split('.');
        let (root, member) = (parts.next().unwrap_or_default(), parts.next());
        if !ROOTS.contains(&root) {
            let known = ROOTS.into_iter().map(str::to_owned).collect::<Vec<_>>();
            return Err(unknown(source, root, root, format!("nothing is called `{root}`"), &known));
        }
        let Some(member) = member.filter(|_| root == "record") else { continue };
        let fields: Vec<String> = topics.iter().flat_map(|topic| fields(topic)).collect();
        if !fields.iter().any(|field| field == member) {
            let what = format!("no record of {} has a field `{member}`", topics.join(", "));
            return Err(unknown(source, &name, member, what, &fields));
        }
    }
    Ok(compiled)
}

fn unknown(source: &str, name: &str, written: &str, what: String, known: &[String]) -> TemplateError {
    let column = source.find(name).map_or(0, |at| source[..at].chars().count()) + 1;
    let hint = did_you_mean(written, known.iter().map(String::as_str));
    let hint = hint.map_or_else(String::new, |hint| format!("; {hint}"));
    TemplateError { place: PLACE.to_owned(), what: format!("column {column}: {what}{hint}") }
}

/// Fields of the records of a topic.
fn fields(topic: &str) -> Vec<String> {
    let schema = RECORDS.iter().find(|(name, _)| *name == topic).and_then(|(_, schema)| avro::source(schema).ok());
    let schema = schema.and_then(|source| serde_json::from_str::<Json>(source).ok()).unwrap_or_default();
    let fields = schema["fields"].as_array().into_iter().flatten();
    fields.filter_map(|field| field["name"].as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::template::{Dialect, Scope};
    use super::*;
    use crate::avro::tests::records::records;

    fn compiled(source: &str, topics: &[&str]) -> Result<(), String> {
        let topics: Vec<String> = topics.iter().map(ToString::to_string).collect();
        compile(&mut Templates::new(Dialect::Chainable), source, &topics).map(drop).map_err(|error| error.to_string())
    }

    #[test]
    fn names_are_those_of_the_records() {
        for source in [
            "record.total_amount | float > 100",
            "record.direction == 'PAYABLE' and record.currency in ['EUR', 'USD']",
            "attributes.region == 'north' or settings.all",
            "topic == 'invoices' and id | length > 3",
            "not (record.lines | length > 0)",
        ] {
            assert_eq!(compiled(source, &["invoices"]), Ok(()), "{source}");
        }
        // One of the topics is enough.
        assert_eq!(compiled("record.framework == 'SOC2'", &["invoices", "compliance"]), Ok(()));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place_and_what_was_meant() {
        for (source, told) in [
            (
                "record.total_amuont | float > 100",
                "filter: column 1: no record of invoices has a field `total_amuont`; did you mean `total_amount`?",
            ),
            (
                "record.currency == 'EUR' and recrod.total_amount",
                "filter: column 30: nothing is called `recrod`; did you mean `record`?",
            ),
            ("record.framework == 'SOC2'", "filter: column 1: no record of invoices has a field `framework`"),
            ("record.currency == ", "filter: column 17: unexpected end of input"),
            ("record.currency = 'EUR'", "filter: column 17: "),
            ("record.currency | upcase == 'EUR'", "filter: no filter is called `upcase`"),
        ] {
            let error = compiled(source, &["invoices"]).unwrap_err();
            assert!(error.starts_with(told), "{source}: {error}");
        }
    }

    #[test]
    fn every_field_of_a_record_is_known() {
        for record in records(1) {
            let fields = fields(record.topic());
            let mut scope = Scope::new();
            scope.set_members("record", std::sync::Arc::new(record));
            let mut templates = Templates::new(Dialect::Strict);
            assert!(!fields.is_empty());
            for field in fields {
                let expression = templates.expression("t", &format!("record.{field}")).unwrap();
                templates.json(&expression, &scope).unwrap();
            }
        }
    }
}
