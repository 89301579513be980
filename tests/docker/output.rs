//! Output: complete, in order, and resumed without a gap or a repeat.

use flotilla::engine::{EngineError, Handle, LaunchSpec, Output};
use flotilla::model::LogPosition;
use futures_util::StreamExt;
use tokio::time::timeout;

use crate::world::{LONGEST, World, world};

/// Pumps in pieces, each time as a server that was restarted, until the output is complete.
async fn pump_in_pieces(world: &mut World, handle: &Handle, piece: usize) -> Vec<u8> {
    let (mut log, mut position) = (Vec::new(), LogPosition::default());
    loop {
        let limit = log.len() + piece;
        match world.pump(handle, &mut log, &mut position, limit).await {
            Ok(()) if log.len() < limit => return log,
            Ok(()) | Err(EngineError::Unavailable(_)) => {}
            Err(error) => panic!("{error}"),
        }
        // What was written after the place was remembered is cut off again.
        log.extend_from_slice(b"torn");
        world.restart();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_megabytes_in_a_burst_are_complete_to_the_last_byte() {
    const BYTES: usize = 100 << 20;
    let Some(world) = world() else { return };
    let line = "0123456789".repeat(10);
    let handle = world.launch(&format!("yes {line} | head -c {BYTES}; echo; echo the end")).await;
    let output = world.output(&handle).await;
    let expected = format!("{line}\n").into_bytes();
    assert_eq!(output.len(), BYTES + "\nthe end\n".len());
    assert!(output.ends_with(b"\nthe end\n"));
    assert!(output[..BYTES].chunks(expected.len()).all(|part| expected.starts_with(part)));
}

#[tokio::test]
async fn output_that_is_resumed_has_no_gap_and_no_repeat() {
    let Some(mut world) = world() else { return };
    // Two streams, bursts within one second, and lines longer than the daemon keeps in one piece.
    let long = "x".repeat(20_000);
    let command = format!(
        "i=0; while [ $i -lt 300 ]; do echo line $i; echo error $i >&2; i=$((i+1)); \
         case $i in *50) sleep 1;; *25) echo {long};; esac; done; printf 'no newline'"
    );
    let handle = world.launch(&command).await;
    world.running(&handle).await;
    let torn = pump_in_pieces(&mut world, &handle, 700).await;
    let whole = world.output(&handle).await;
    assert_eq!(String::from_utf8_lossy(&torn), String::from_utf8_lossy(&whole));
    let text = String::from_utf8(whole).unwrap();
    let count = |prefix: &str| text.lines().filter(|line| line.starts_with(prefix)).count();
    assert_eq!((count("line "), count("error ")), (300, 300));
    assert!(text.contains(&long) && text.ends_with("no newline"));
}

#[tokio::test]
async fn output_goes_on_from_a_byte_where_there_is_no_marker() {
    let Some(world) = world() else { return };
    let handle = world.launch("echo one; echo two; exit 1").await;
    world.ended(&handle).await;
    for (from, expected) in [(0, "one\ntwo\n"), (5, "wo\n"), (8, "")] {
        let mut log = vec![b'.'; from];
        let mut position = LogPosition { bytes: from as u64, marker: None };
        world.pump(&handle, &mut log, &mut position, usize::MAX).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&log[from..]), expected);
    }
}

#[tokio::test]
async fn output_is_complete_although_the_daemon_turns_its_files_over() {
    let Some(world) = world() else { return };
    // More than two of the smallest files, with pauses in which the daemon's reader has to notice.
    let part = "yes 0123456789012345678901234567890123456789 | head -c 8200000";
    let command = format!("i=0; while [ $i -lt 9 ]; do {part}; echo part $i; i=$((i+1)); sleep 0.2; done");
    let spec = LaunchSpec { log_cap_bytes: 1, ..world.spec(&command) };
    let handle = world.engine().launch(&spec).await.unwrap();
    world.running(&handle).await;
    let output = String::from_utf8(world.output(&handle).await).unwrap();
    let parts: Vec<_> = output.lines().filter(|line| line.starts_with("part")).collect();
    assert_eq!(parts, (0..9).map(|i| format!("part {i}")).collect::<Vec<_>>());
    assert_eq!(output.len(), 9 * (8_200_000 + "part 0\n".len()));
}

#[tokio::test]
async fn a_reader_that_is_held_up_misses_no_file_that_the_daemon_has_turned_over() {
    const BYTES: usize = 60_000_000;
    let Some(world) = world() else { return };
    let command = format!("yes 01234567890123456789012345678901234567890 | head -c {BYTES}; sleep 0.5; echo the end");
    // The smallest files: all five of them hold this.
    let spec = LaunchSpec { log_cap_bytes: 1, ..world.spec(&command) };
    let handle = world.engine().launch(&spec).await.unwrap();
    world.running(&handle).await;
    let Output::Stream(mut chunks) = world.engine().output(&handle, &LogPosition::default()).await.unwrap() else {
        panic!("the output is a stream")
    };
    let mut output = chunks.next().await.unwrap().unwrap().bytes.to_vec();
    world.ended(&handle).await;
    while let Some(chunk) = timeout(LONGEST, chunks.next()).await.expect("output goes on") {
        output.extend_from_slice(&chunk.unwrap().bytes);
    }
    assert_eq!(output.len(), BYTES + "the end\n".len());
}

#[tokio::test]
async fn bytes_arrive_as_they_were_printed() {
    let Some(world) = world() else { return };
    let handle =
        world.launch("printf '\\000\\001\\377\\n\\r\\033[1m'; printf '\\303' ; sleep 0.3; printf '\\251'").await;
    assert_eq!(world.output(&handle).await, b"\x00\x01\xff\n\r\x1b[1m\xc3\xa9");
}

#[tokio::test]
async fn output_comes_while_it_is_printed() {
    let Some(world) = world() else { return };
    let handle = world.launch("echo first; sleep 1000").await;
    world.running(&handle).await;
    let (mut log, mut position) = (Vec::new(), LogPosition::default());
    world.pump(&handle, &mut log, &mut position, 6).await.unwrap();
    assert_eq!(log, b"first\n");
}
