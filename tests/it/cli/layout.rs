//! Topics: missing ones created once, wrong ones named and corrected as far as that is safe.

use std::collections::BTreeMap;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;

use crate::common::process::run;
use crate::common::{Bare, bare, eventually};

struct Operator<'a> {
    client: AdminClient<DefaultClientContext>,
    bare: &'a Bare,
}

impl<'a> Operator<'a> {
    fn of(bare: &'a Bare) -> Self {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", bare.config.kafka.bootstrap_servers.join(","));
        Self { client: config.create().unwrap(), bare }
    }

    fn name(&self, topic: &str) -> String {
        self.bare.ground.cluster.topic(topic)
    }

    async fn create(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
        let name = self.name(topic);
        let new = NewTopic::new(&name, partitions, TopicReplication::Fixed(1));
        let new = settings.iter().fold(new, |new, (key, value)| new.set(key, value));
        for made in self.client.create_topics([&new], &AdminOptions::new()).await.unwrap() {
            made.unwrap();
        }
        // The broker confirms a topic before it shows it.
        let shown = || self.bare.ground.partitions_of(topic).unwrap().len() == usize::try_from(partitions).unwrap();
        eventually("the topic is shown", shown).await;
    }

    async fn settings(&self, topic: &str) -> BTreeMap<String, String> {
        let name = self.name(topic);
        let described =
            self.client.describe_configs([&ResourceSpecifier::Topic(&name)], &AdminOptions::new()).await.unwrap();
        let entries = described.into_iter().next().unwrap().unwrap().entries;
        entries.into_iter().map(|entry| (entry.name, entry.value.unwrap_or_default())).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_created_once_and_demanded_by_a_run() {
    let bare = bare("").await;
    let file = bare.file();
    let checked = run(&file, &["topics", "check"]).await;
    assert_eq!(checked.code, Some(1), "{checked:?}");
    for topic in &bare.ground.topics {
        let name = topic.full_name(bare.ground.cluster.prefix());
        assert!(checked.stderr.contains(&format!("error: topic {name} does not exist;")), "{name}: {}", checked.stderr);
    }
    let refused = run(&file, &["run"]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("create it with `ledgerhook topics apply`"), "{}", refused.stderr);

    let applied = run(&file, &["topics", "apply"]).await;
    assert_eq!(applied.code, Some(0), "{applied:?}");
    assert_eq!(applied.stdout.matches("created ").count(), bare.ground.topics.len());
    let applied = run(&file, &["topics", "apply"]).await;
    assert_eq!(applied.code, Some(0), "{applied:?}");
    assert!(applied.stdout.starts_with("nothing to do\n"), "{applied:?}");
    assert_eq!(run(&file, &["topics", "check"]).await.code, Some(0));

    let refused = run(&file, &["run"]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("register it with `ledgerhook schemas apply`"), "{}", refused.stderr);
    let told = refused.stderr.lines().filter(|line| line.starts_with("error: "));
    assert!(told.clone().count() == 1 && told.clone().all(|line| line.matches("has no schema").count() == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_topics_are_named_and_corrected_without_loss() {
    let bare = bare("").await;
    let file = bare.file();
    let operator = Operator::of(&bare);
    let (two_years, index) = ("63072000000", "20971520");
    operator.create("seen.accelex", 3, &[("cleanup.policy", "delete"), ("segment.index.bytes", index)]).await;
    let seen = [("cleanup.policy", "compact,delete"), ("retention.ms", "3600000"), ("max.message.bytes", "4194304")];
    operator.create("seen.accbooks", 5, &seen).await;
    operator.create("received.accbooks", 3, &[("retention.ms", two_years), ("max.message.bytes", "1000")]).await;

    let checked = run(&file, &["topics", "check"]).await;
    assert_eq!(checked.code, Some(1), "{checked:?}");
    let said = |text: &str, topic: &str, what: &str| {
        let about = format!("error: topic {}: {what}", operator.name(topic));
        let line = text.lines().find(|line| line.starts_with(&about));
        line.unwrap_or_else(|| panic!("{about}: {text}")).to_owned()
    };
    let mend = "correct it with `ledgerhook topics apply`";
    for (topic, what) in [
        ("seen.accelex", "cleanup.policy is delete, must be compact,delete: "),
        ("seen.accbooks", "retention.ms is 3600000, must be 2764800000 or more, or -1: "),
        ("received.accbooks", "max.message.bytes is 1000, must be 4194304 or more: "),
    ] {
        assert!(said(&checked.stderr, topic, what).ends_with(mend));
    }
    let repartition = "number of partitions is 5, must be 3 as in ";
    assert!(said(&checked.stderr, "seen.accbooks", repartition).contains("to the smaller of the two"));

    let applied = run(&file, &["topics", "apply"]).await;
    assert_eq!(applied.code, Some(1), "partitions stay as they are: {applied:?}");
    for topic in ["seen.accelex", "seen.accbooks", "received.accbooks"] {
        assert!(applied.stdout.contains(&format!("corrected {}\n", operator.name(topic))), "{applied:?}");
    }
    assert_eq!(applied.stderr.matches("error: ").count(), 1, "{}", applied.stderr);
    said(&applied.stderr, "seen.accbooks", repartition);

    let settings = operator.settings("seen.accelex").await;
    assert_eq!(settings["cleanup.policy"], "compact,delete");
    assert_eq!(settings["retention.ms"], "2764800000");
    assert_eq!(settings["segment.index.bytes"], index, "an operator's setting stays");
    assert_eq!(operator.settings("seen.accbooks").await["retention.ms"], "2764800000");
    let settings = operator.settings("received.accbooks").await;
    assert_eq!((settings["retention.ms"].as_str(), settings["max.message.bytes"].as_str()), (two_years, "4194304"));

    let refused = run(&file, &["run"]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains(repartition), "{}", refused.stderr);
}
