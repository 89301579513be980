//! What becomes of runs while a part of the cluster is away.

use flotilla::engine::EngineState;
use flotilla::model::{EndCause, LogPosition, Observation};

use crate::world::{CLUSTER, Part, world_with};

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_is_restarted_finishes_nothing_wrongly() {
    let _apart = CLUSTER.write().await;
    let Some(world) = world_with(|_| {}, None) else { return };
    let short = world.launch("i=0; while [ $i -lt 8 ]; do echo $i; sleep 1; i=$((i+1)); done; exit 5").await;
    let long = world.launch("sleep 1000").await;
    world.running(&short).await;
    world.running(&long).await;
    let (mut log, mut position) = (Vec::new(), LogPosition::default());
    world.pump(&short, &mut log, &mut position, 2).await.unwrap();
    let Some(api) = Part::of("kube-apiserver") else { return };
    api.kill();
    // It is noticed by whoever looks.
    while !matches!(world.engine().state(), EngineState::Unreachable { .. }) {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(world.observe(&long).await.is_err(), "nothing is concluded");
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert!(world.observe(&short).await.is_err());
    api.start();
    let ended = world.ended(&short).await;
    assert_eq!((ended.exit_code, ended.cause), (5, EndCause::Exited));
    assert!(matches!(world.observe(&long).await.unwrap(), Observation::Running(_)));
    assert_eq!(world.engine().state(), EngineState::Reachable);
    world.pump(&short, &mut log, &mut position, usize::MAX).await.unwrap();
    assert_eq!(String::from_utf8(log).unwrap(), "0\n1\n2\n3\n4\n5\n6\n7\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_agent_that_is_away_for_a_while_tells_the_truth_afterwards() {
    let _apart = CLUSTER.write().await;
    let Some(world) = world_with(|_| {}, None) else { return };
    let handle = world.launch("sleep 4; echo over; exit 6").await;
    world.running(&handle).await;
    let Some(kubelet) = Part::of("kubelet") else { return };
    kubelet.kill();
    tokio::time::sleep(std::time::Duration::from_secs(6)).await;
    assert!(matches!(world.observe(&handle).await.unwrap(), Observation::Running(_)), "nobody has said otherwise");
    kubelet.start();
    let ended = world.ended(&handle).await;
    assert_eq!((ended.exit_code, ended.cause), (6, EndCause::Exited));
    assert_eq!(world.output(&handle).await, b"over\n");
}
