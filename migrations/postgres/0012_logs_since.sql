-- Logs are kept from when they were complete by the kept time, for a run's own times may be the word of a clock that is wrong.
ALTER TABLE runs ADD COLUMN log_complete_since BIGINT;
UPDATE runs SET log_complete_since = finished_at WHERE is_log_complete = 1 AND log_pruned_at IS NULL;

DROP INDEX runs_with_logs;
CREATE INDEX runs_with_logs ON runs (resolved_cluster, log_complete_since, run_id)
    WHERE log_pruned_at IS NULL AND is_log_complete = 1;
