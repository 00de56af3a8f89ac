//! Brokers restarted, frozen, killed: routers go on by themselves, and route each event once.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::Consumer as _;
use tokio::task::{JoinHandle, block_in_place};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::storm::{assert_each_once, feed, instance, start};
use crate::common::broker::OwnServers;
use crate::common::committed::Committed;
use crate::common::process::Process;
use crate::common::{Installation, eventually, install_on};

/// Longer than a transaction's timeout and a member's session, both ten seconds.
const FROZEN: Duration = Duration::from_secs(12);
const WAIT: Duration = Duration::from_secs(10);

/// Routers under a steady load.
struct Scene {
    installation: Arc<Installation>,
    routers: Vec<Process>,
    feeding: JoinHandle<u64>,
    stop: CancellationToken,
    group: Committed,
    servers: OwnServers,
}

impl Scene {
    async fn set(brokers: usize, routers: usize) -> Option<Self> {
        let servers = tokio::task::spawn_blocking(move || OwnServers::cluster(brokers)).await.unwrap()?;
        let installation = Arc::new(install_on(&servers, "").await);
        let stop = CancellationToken::new();
        let feeding = {
            let (installation, stop) = (Arc::clone(&installation), stop.clone());
            tokio::spawn(async move { feed(&installation, stop, 200).await })
        };
        let routers = (0..routers).map(|n| start(&instance(&installation, n), None)).collect();
        let group = Committed::of_router(&installation);
        let scene = Self { installation, routers, feeding, stop, group, servers };
        scene.goes_on("from the start").await;
        Some(scene)
    }

    /// Rows that committed transactions cover; none where nobody says.
    fn taken(&self) -> Option<i64> {
        let committed = self.group.of_accbooks(&self.installation)?;
        Some(committed.iter().map(|(next, _)| next).sum())
    }

    /// Waits until more rows are routed, in every partition.
    async fn goes_on(&self, since: &str) {
        let began = Instant::now();
        let now = || block_in_place(|| self.taken());
        let answer = Cell::new(None);
        eventually("the group answers", || {
            answer.set(now());
            answer.get().is_some()
        })
        .await;
        let goal = answer.get().unwrap() + 300;
        eventually(&format!("rows are routed {since}"), || now().is_some_and(|taken| taken >= goal)).await;
        println!("{since}: 300 rows further after {:.1} s", began.elapsed().as_secs_f64());
    }

    /// The broker that coordinates a group, or a transactional id, by the internal topic that holds it.
    fn coordinator(&self, topic: &str, id: &str) -> Option<i32> {
        let metadata = self.group.ask(|client| client.fetch_metadata(Some(topic), WAIT).ok())?;
        let partitions = metadata.topics().first()?.partitions();
        // `String.hashCode` of Java.
        let hash = id.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
        let number = hash.checked_abs().unwrap_or(0) % i32::try_from(partitions.len()).ok()?;
        partitions.iter().find(|partition| partition.id() == number).map(|partition| partition.leader())
    }

    async fn ends_well(self) {
        self.stop.cancel();
        let ids = self.feeding.await.unwrap();
        assert_each_once(&self.installation, ids, 0).await;
        for router in self.routers {
            // None of them has ended before it was told to.
            router.terminate();
            let ended = router.ended().await;
            assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        }
        let (servers, installation) = (self.servers, self.installation);
        drop(installation);
        tokio::task::spawn_blocking(move || drop(servers)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_killed_and_one_that_freezes_double_nothing() {
    let Some(scene) = Scene::set(1, 2).await else { return };
    block_in_place(|| {
        scene.servers.kill();
        scene.servers.restart();
    });
    scene.goes_on("after the broker's restart").await;
    block_in_place(|| scene.servers.freeze());
    tokio::time::sleep(FROZEN).await;
    block_in_place(|| scene.servers.thaw());
    scene.goes_on("after the broker's thaw").await;
    scene.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long form: scripts/test --long"]
async fn long_coordinators_that_move_double_nothing() {
    let Some(scene) = Scene::set(3, 2).await else { return };
    let prefix = scene.installation.config.kafka.topic_prefix.clone();
    let file = scene.installation.data_dir.path().join("instance-0/router/instance");
    let of_transactions = format!("{prefix}router.{}", std::fs::read_to_string(file).unwrap().trim());
    let of_group = format!("{prefix}router");
    for round in 0..2 {
        for (topic, id) in [("__consumer_offsets", &of_group), ("__transaction_state", &of_transactions)] {
            let coordinator = || block_in_place(|| scene.coordinator(topic, id));
            let answer = Cell::new(0);
            eventually("the coordinator is known", || {
                answer.set(coordinator().unwrap_or_default());
                answer.get() > 0
            })
            .await;
            let node = answer.get();
            println!("round {round}: broker {node} of {topic} killed");
            block_in_place(|| scene.servers.kill_node(node));
            eventually("another one coordinates", || coordinator().is_some_and(|now| now > 0 && now != node)).await;
            scene.goes_on("with one broker less").await;
            block_in_place(|| scene.servers.restart_node(node));
            scene.goes_on("with all brokers").await;
        }
    }
    scene.ends_well().await;
}
