use std::sync::Arc;

use flotilla::engine::Reports;
use flotilla::engine::fake::FakeEngine;
use jiff::Timestamp;

use crate::contract::contract;
use crate::world::World;

#[expect(clippy::unnecessary_wraps, reason = "as the contract asks for it")]
fn world() -> Option<World> {
    let reports = Reports::default();
    let engine = FakeEngine::new(|| Timestamp::UNIX_EPOCH, reports.clone());
    Some(World::new(Arc::new(engine), reports, tempfile::tempdir().unwrap()))
}

contract!(world);
