-- Which logs are still to be removed is known from rows, so that a run whose log became complete late, or whose end was
-- stored late, is found as well.
ALTER TABLE runs ADD COLUMN log_pruned_at INTEGER;

CREATE INDEX runs_with_logs ON runs (resolved_cluster, COALESCE(finished_at, 9223372036854775807), run_id)
    WHERE log_pruned_at IS NULL AND is_log_complete = 1;
