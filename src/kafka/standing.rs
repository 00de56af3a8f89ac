//! Names under which instances join a group, and stay members of it while they are away for less than a session
//! ([static membership](https://cwiki.apache.org/confluence/display/KAFKA/KIP-345%3A+Introduce+static+membership+protocol+to+reduce+consumer+rebalances)).
//!
//! A member that comes back under its old name is given what it had: the group's coordinator does not look at what it
//! reads now. With partitions added meanwhile nobody would read those, nor what it reads now where its topics are others.
//! So a name has these in it.

use super::admin::{Admin, AdminError};
use crate::event::Sha256;

/// Letters of a name that stand for partitions, behind a dot.
const LETTERS: usize = 8;
/// Behind the name in the id that a broker gives a static member.
const UUID: usize = "-00000000-0000-0000-0000-000000000000".len();

/// The name of an instance that reads all partitions there are of these topics (Kafka's names), whatever their order:
/// `<instance>.<eight hexadecimal digits>`. Blocks.
///
/// # Errors
/// When the cluster is away.
pub fn name(admin: &Admin, instance: &str, topics: &[String]) -> Result<String, AdminError> {
    let counted = topics.iter().map(|topic| Ok(format!("{topic} {}", admin.partitions(topic)?.len())));
    Ok(of_counted(instance, counted.collect::<Result<_, AdminError>>()?))
}

fn of_counted(instance: &str, mut topics: Vec<String>) -> String {
    topics.sort();
    let digits = Sha256::of(topics.join("\n").as_bytes()).to_string();
    format!("{instance}.{}", digits.chars().take(LETTERS).collect::<String>())
}

/// The instance behind the id that a broker gave to such a member, or to one with a name of another form.
pub(super) fn instance_of(member: &str) -> &str {
    let name = member.len().checked_sub(UUID).and_then(|at| member.get(..at)).unwrap_or(member);
    let is_ours = |letters: &str| letters.len() == LETTERS && letters.bytes().all(|b| b.is_ascii_hexdigit());
    name.rsplit_once('.').filter(|(_, letters)| is_ours(letters)).map_or(name, |(instance, _)| instance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_what_is_read_and_leads_back_to_its_instance() {
        let of =
            |instance: &str, topics: &[&str]| of_counted(instance, topics.iter().map(|t| (*t).to_owned()).collect());
        let name = of("delivery-1.site", &["invoices 12", "redeliver.erp 12"]);
        assert_eq!(name, of("delivery-1.site", &["redeliver.erp 12", "invoices 12"]));
        for other in [&["invoices 24", "redeliver.erp 12"][..], &["contracts 12", "redeliver.erp 12"], &["invoices 12"]]
        {
            assert_ne!(name, of("delivery-1.site", other));
        }
        let member = |name: &str| format!("{name}-018f3b7e-9c1d-7000-8000-0123456789ab");
        for (member, instance) in [
            (member(&name), "delivery-1.site"),
            (member("lake-1"), "lake-1"),
            (member("host.example"), "host.example"),
            ("short".to_owned(), "short"),
        ] {
            assert_eq!(instance_of(&member), instance, "{member}");
        }
    }
}
