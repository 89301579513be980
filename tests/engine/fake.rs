use std::sync::Arc;

use flotilla::engine::Pokes;
use flotilla::engine::fake::FakeEngine;
use jiff::Timestamp;

use crate::contract::contract;
use crate::world::World;

#[expect(clippy::unnecessary_wraps, reason = "as the contract asks for it")]
fn world() -> Option<World> {
    let pokes = Pokes::default();
    let engine = FakeEngine::new(|| Timestamp::UNIX_EPOCH, pokes.clone());
    Some(World::new(Arc::new(engine), pokes, tempfile::tempdir().unwrap()))
}

contract!(world);
