//! Events: a run's history, each appended in the transaction of the change it describes.

use super::row::{FromRow, Row};

use super::statement::{Statement, words};
use super::{Store, StoreError};
use crate::model::{Event, RunId};

impl FromRow for Event {
    fn from_row(row: &mut Row) -> Result<Self, StoreError> {
        Ok(Self {
            timestamp: row.time()?,
            event_type: row.parsed()?,
            reason: row.text()?,
            source_object: row.text()?,
            message: row.text()?,
        })
    }
}

const INSERT: &str = "INSERT INTO events (run_id, timestamp, event_type, reason, source_object, message)
         SELECT $1, $2, $3, $4, $5, $6";
const INSERT_ONCE: &str = "INSERT INTO events (run_id, timestamp, event_type, reason, source_object, message)
         SELECT $1, $2, $3, $4, $5, $6
         WHERE NOT EXISTS (SELECT 1 FROM events WHERE run_id = $1 AND timestamp = $2 AND reason = $4 AND message = $6)";

const INSERT_UNSAID: &str = "INSERT INTO events (run_id, timestamp, event_type, reason, source_object, message)
         SELECT $1, $2, $3, $4, $5, $6
         WHERE NOT EXISTS (SELECT 1 FROM events WHERE run_id = $1 AND reason = $4 AND message = $6)";

pub(super) fn append(run_id: RunId, event: &Event) -> Statement {
    insert(INSERT, run_id, event)
}

fn insert(text: &'static str, run_id: RunId, event: &Event) -> Statement {
    Statement::new(
        text,
        [
            run_id.to_string().into(),
            event.timestamp.into(),
            event.event_type.to_string().into(),
            words(&event.reason),
            words(&event.source_object),
            words(&event.message),
        ],
    )
}

impl Store {
    /// Appends an event to a run's history unless it is already there.
    pub async fn append_unsaid_event(&self, run_id: RunId, event: &Event) -> Result<(), StoreError> {
        self.db.write(vec![insert(INSERT_UNSAID, run_id, event)]).await.map(|_| ())
    }

    /// How many events a run has.
    pub async fn count_events(&self, run_id: RunId) -> Result<u64, StoreError> {
        let count = Statement::new("SELECT COUNT(*) FROM events WHERE run_id = $1", [run_id.to_string().into()]);
        Ok(self.db.read_one(count).await?.unwrap_or_default())
    }

    /// Whether a run has an event with this reason.
    pub async fn has_event(&self, run_id: RunId, reason: &str) -> Result<bool, StoreError> {
        let select = "SELECT COUNT(*) FROM events WHERE run_id = $1 AND reason = $2";
        let count: Option<u64> =
            self.db.read_one(Statement::new(select, [run_id.to_string().into(), reason.into()])).await?;
        Ok(count.is_some_and(|count| count > 0))
    }

    /// The newest events of a run, in the order they happened.
    pub async fn newest_events(&self, run_id: RunId, most: u32) -> Result<Vec<Event>, StoreError> {
        let select = Statement::new(
            "SELECT timestamp, event_type, reason, source_object, message FROM events WHERE run_id = $1
             ORDER BY event_id DESC LIMIT $2",
            [run_id.to_string().into(), most.into()],
        );
        let mut events: Vec<Event> = self.db.read(select).await?;
        events.reverse();
        Ok(events)
    }

    /// An event that is already stored is not stored again: after a restart an engine repeats what its machine still
    /// remembers.
    pub async fn append_event(&self, run_id: RunId, event: &Event) -> Result<(), StoreError> {
        self.db.write(vec![insert(INSERT_ONCE, run_id, event)]).await.map(|_| ())
    }
}
