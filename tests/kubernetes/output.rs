//! The output, to its last byte.

use flotilla::model::LogPosition;

use crate::world::world;

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_over_at_once_has_all_of_its_output() {
    let Some(world) = world().await else { return };
    for lines in [0, 1, 5000] {
        let (_, output) = world.run(&world.task(&format!("seq 1 {lines}"), |_| {})).await;
        let expected: String = (1..=lines).map(|line| format!("{line}\n")).collect();
        assert!(output == expected, "{} bytes instead of {}", output.len(), expected.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn long_lines_come_in_one_piece() {
    let Some(world) = world().await else { return };
    let command = "i=0; while [ $i -lt 3 ]; do head -c 50000 /dev/zero | tr '\\0' x; echo; i=$((i+1)); done; head -c 16384 /dev/zero | tr '\\0' y; echo";
    let (_, output) = world.run(&world.task(command, |_| {})).await;
    let expected = format!("{0}\n{0}\n{0}\n{1}\n", "x".repeat(50_000), "y".repeat(16_384));
    assert!(output == expected, "{} bytes instead of {}", output.len(), expected.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn output_torn_anywhere_goes_on_without_gap_or_repeat() {
    let Some(mut world) = world().await else { return };
    let handle = world
        .launch("i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); [ $((i % 500)) != 0 ] || sleep 1; done")
        .await;
    world.running(&handle).await;
    let (mut log, mut position) = (Vec::new(), LogPosition::default());
    for limit in [1, 3000, 6000, 20_000] {
        world.pump(&handle, &mut log, &mut position, limit).await.unwrap();
        world.restart();
        world.until(&handle, "seen", |_| true).await;
    }
    world.pump(&handle, &mut log, &mut position, usize::MAX).await.unwrap();
    let expected: String = (0..3000).map(|line| format!("line {line}\n")).collect();
    assert!(String::from_utf8(log).unwrap() == expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_line_without_an_end_goes_on_where_a_stream_broke_off_within_it() {
    let Some(mut world) = world().await else { return };
    // As a progress bar prints: parts of a line for seconds, and its end at last.
    let command =
        "i=0; while [ $i -lt 6 ]; do head -c 20000 /dev/zero | tr '\\0' $i; sleep 1; i=$((i+1)); done; echo; echo end";
    let handle = world.launch(command).await;
    world.running(&handle).await;
    let (mut log, mut position) = (Vec::new(), LogPosition::default());
    for limit in [1, 20_000, 50_000] {
        world.pump(&handle, &mut log, &mut position, limit).await.unwrap();
        world.restart();
        world.until(&handle, "seen", |_| true).await;
    }
    world.pump(&handle, &mut log, &mut position, usize::MAX).await.unwrap();
    let expected: String = (0..6).map(|i| i.to_string().repeat(20_000)).collect::<String>() + "\nend\n";
    assert!(String::from_utf8(log).unwrap() == expected);
}
