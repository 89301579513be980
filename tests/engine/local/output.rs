//! A task's output is in its log, all of it, in order.

use std::fs;

use super::world;

#[tokio::test]
async fn a_burst_of_fifty_megabytes_is_complete() {
    let world = world();
    let mut spec = world.spec("seq 1 7000000");
    spec.log_cap_bytes = 1 << 30;
    let handle = world.engine.launch(&spec).await.unwrap();
    assert_eq!(world.ended(&handle).await.exit_code, 0);
    let log = fs::read_to_string(&spec.log_path).unwrap();
    assert!(log.len() > 50 << 20);
    let mut expected = 0;
    for line in log.lines() {
        expected += 1;
        assert_eq!(line.parse(), Ok(expected));
    }
    assert_eq!(expected, 7_000_000);
}

#[tokio::test]
async fn beyond_the_cap_the_task_goes_on_and_the_log_says_what_is_missing() {
    let world = world();
    let mut spec = world.spec("seq 1 100000; exit 5");
    spec.log_cap_bytes = 1000;
    let (ended, output) = world.run_spec(&spec).await;
    assert_eq!(ended.exit_code, 5);
    assert!(output.starts_with("1\n2\n3\n"));
    assert!(output.contains("the log reached its cap of 1000 bytes"), "{output}");
    assert!(output.ends_with(&format!("[flotilla: {} bytes of output were not kept]\n", 588_895 - 1000)), "{output}");
}

#[tokio::test]
async fn both_outputs_come_in_the_order_written() {
    let command = "for i in $(seq 1 500); do echo out $i; echo err $i >&2; done";
    let (_, output) = world().run(command).await;
    let expected: Vec<String> = (1..=500).flat_map(|i| [format!("out {i}"), format!("err {i}")]).collect();
    assert_eq!(output.lines().collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn bytes_are_kept_as_they_are() {
    let world = world();
    let (spec, handle) = world.launch(r"printf 'a\000b\377\r\n\033[1m no newline'").await;
    world.ended(&handle).await;
    assert_eq!(fs::read(&spec.log_path).unwrap(), b"a\0b\xff\r\n\x1b[1m no newline");
}

#[tokio::test]
async fn output_is_in_the_log_while_the_task_runs() {
    let world = world();
    let (spec, handle) = world.launch("echo first; sleep 1000").await;
    world.running(&handle).await;
    assert_eq!(crate::world::written(&spec.log_path).await, "first\n");
}

#[tokio::test]
async fn a_task_without_output_has_an_empty_log() {
    let world = world();
    let (spec, handle) = world.launch("exec >&- 2>&-; read line < work || :; exit 0").await;
    let ended = world.ended(&handle).await;
    assert_eq!((ended.exit_code, ended.is_log_complete), (0, true));
    assert_eq!(fs::read(&spec.log_path).unwrap(), b"");
}
