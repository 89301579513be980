-- When the engine was first asked to stop a run, noted before it is: what ended earlier ended by itself.
ALTER TABLE runs ADD COLUMN stop_sent_at BIGINT;
-- With the cause 'deadline': why the run did not start in time. Without these words it is the deadline of a running run.
ALTER TABLE runs ADD COLUMN stop_words TEXT COLLATE "C";
-- Set where a run was asked to stop with all that descends from it, in whatever state each of these is.
ALTER TABLE runs ADD COLUMN family_stop_at BIGINT;
-- When it was first seen running, by the server's clock.
ALTER TABLE runs ADD COLUMN seen_running_at BIGINT;
-- Attempts that never started, by whose fault that was, as JSON.
ALTER TABLE runs ADD COLUMN failed_starts TEXT COLLATE "C";
-- Earlier versions did not note it, and asked as soon as they could.
UPDATE runs SET stop_sent_at = stop_at WHERE stop_at IS NOT NULL AND status <> 'STOPPED';
