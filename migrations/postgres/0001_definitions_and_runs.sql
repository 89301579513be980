CREATE TABLE definitions (
    definition_id TEXT COLLATE "C" PRIMARY KEY,
    alias TEXT COLLATE "C",
    group_name TEXT COLLATE "C" NOT NULL,
    image TEXT COLLATE "C" NOT NULL,
    memory_mb BIGINT,
    cpu_millis BIGINT,
    task TEXT COLLATE "C" NOT NULL,
    task_type TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    deregistered_at BIGINT
);
CREATE UNIQUE INDEX definitions_by_alias ON definitions (alias) WHERE deregistered_at IS NULL;
CREATE INDEX definitions_by_group ON definitions (group_name, definition_id) WHERE deregistered_at IS NULL;
CREATE INDEX definitions_by_image ON definitions (image, definition_id) WHERE deregistered_at IS NULL;

-- The tags of live definitions only.
CREATE TABLE definition_tags (
    tag TEXT COLLATE "C" NOT NULL,
    definition_id TEXT COLLATE "C" NOT NULL REFERENCES definitions (definition_id),
    PRIMARY KEY (tag, definition_id)
);
CREATE INDEX definition_tags_by_definition ON definition_tags (definition_id);

CREATE TABLE runs (
    run_id TEXT COLLATE "C" PRIMARY KEY,
    definition_id TEXT COLLATE "C" NOT NULL REFERENCES definitions (definition_id),
    alias TEXT COLLATE "C",
    group_name TEXT COLLATE "C" NOT NULL,
    image TEXT COLLATE "C" NOT NULL,
    cluster TEXT COLLATE "C" NOT NULL,
    -- The cluster that `cluster` meant when the run was launched: `default` may come to mean another.
    resolved_cluster TEXT COLLATE "C" NOT NULL,
    engine TEXT COLLATE "C" NOT NULL,
    owner TEXT COLLATE "C" NOT NULL,
    memory_mb BIGINT,
    cpu_millis BIGINT,
    parent_run_id TEXT COLLATE "C",
    task TEXT COLLATE "C" NOT NULL,
    execution TEXT COLLATE "C" NOT NULL,
    status TEXT COLLATE "C" NOT NULL CHECK (status IN ('QUEUED', 'PENDING', 'RUNNING', 'NEEDS_RETRY', 'STOPPED')),
    outcome TEXT COLLATE "C" CHECK (outcome IN ('succeeded', 'failed', 'stopped', 'timed_out', 'lost', 'rejected')),
    exit_code BIGINT,
    exit_reason TEXT COLLATE "C",
    queued_at BIGINT NOT NULL,
    started_at BIGINT,
    finished_at BIGINT,
    due_at BIGINT,
    stop_at BIGINT,
    stop_cause TEXT COLLATE "C" CHECK (stop_cause IN ('request', 'parent', 'deadline')),
    attempt_count BIGINT NOT NULL CHECK (attempt_count >= 0),
    claim TEXT COLLATE "C",
    instance_id TEXT COLLATE "C" NOT NULL,
    instance_dns_name TEXT COLLATE "C" NOT NULL,
    max_memory_bytes BIGINT,
    max_cpu_millis BIGINT,
    cpu_time_ms BIGINT,
    memory_limit_bytes BIGINT,
    cpu_limit_millis BIGINT,
    run_exceptions TEXT COLLATE "C",
    image_digest TEXT COLLATE "C",
    is_log_complete BIGINT NOT NULL CHECK (is_log_complete IN (0, 1)),
    CHECK ((status = 'STOPPED') = (outcome IS NOT NULL)),
    CHECK ((status = 'STOPPED') = (finished_at IS NOT NULL)),
    CHECK ((status = 'NEEDS_RETRY') = (due_at IS NOT NULL)),
    CHECK (status <> 'RUNNING' OR started_at IS NOT NULL),
    CHECK (exit_code IS NULL OR status = 'STOPPED'),
    CHECK ((stop_at IS NULL) = (stop_cause IS NULL))
);
CREATE INDEX runs_by_queued_at ON runs (queued_at, run_id);
CREATE INDEX runs_by_started_at ON runs (COALESCE(started_at, 9223372036854775807), run_id);
CREATE INDEX runs_by_finished_at ON runs (COALESCE(finished_at, 9223372036854775807), run_id);
CREATE INDEX runs_by_cluster ON runs (cluster, queued_at, run_id);
CREATE INDEX runs_by_group ON runs (group_name, queued_at, run_id);
CREATE INDEX runs_by_image ON runs (image, queued_at, run_id);
CREATE INDEX runs_by_owner ON runs (owner, queued_at, run_id);
CREATE INDEX runs_by_alias ON runs (alias, queued_at, run_id);
CREATE INDEX runs_by_definition ON runs (definition_id, queued_at, run_id);
CREATE INDEX runs_by_queue ON runs (resolved_cluster, status, queued_at, run_id);
CREATE INDEX runs_by_parent ON runs (parent_run_id, queued_at, run_id) WHERE parent_run_id IS NOT NULL;
-- Nearly all runs have stopped, so that an index would only mislead who looks for those.
CREATE INDEX runs_active ON runs (status, queued_at, run_id) WHERE status <> 'STOPPED';
CREATE INDEX runs_by_claim ON runs (claim) WHERE status <> 'STOPPED';
CREATE INDEX runs_due ON runs (due_at) WHERE status = 'NEEDS_RETRY';
CREATE INDEX runs_stopping ON runs (run_id) WHERE stop_at IS NOT NULL AND status <> 'STOPPED';

-- How many runs have stopped, by all that lists of runs are filtered by: a list's total adds these up instead of
-- counting history. Whatever is done to `runs` is done here in the same transaction. Several rows share each count, so
-- that transactions rarely wait for one another; one that stops a single run touches a single row and can't deadlock.
CREATE TABLE stopped_runs (
    definition_id TEXT COLLATE "C" NOT NULL,
    alias TEXT COLLATE "C",
    group_name TEXT COLLATE "C" NOT NULL,
    image TEXT COLLATE "C" NOT NULL,
    cluster TEXT COLLATE "C" NOT NULL,
    owner TEXT COLLATE "C" NOT NULL,
    share BIGINT NOT NULL,
    runs BIGINT NOT NULL
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX stopped_runs_by_all ON stopped_runs
    (definition_id, COALESCE(alias, ''), group_name, image, cluster, owner, share);

CREATE FUNCTION count_stopped_run() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    run runs := CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
    change BIGINT := CASE TG_OP WHEN 'DELETE' THEN -1 ELSE 1 END;
BEGIN
    INSERT INTO stopped_runs (definition_id, alias, group_name, image, cluster, owner, share, runs)
    VALUES (run.definition_id, run.alias, run.group_name, run.image, run.cluster, run.owner, pg_backend_pid() % 16, change)
    ON CONFLICT (definition_id, COALESCE(alias, ''), group_name, image, cluster, owner, share)
    DO UPDATE SET runs = stopped_runs.runs + change;
    RETURN NULL;
END
$$;
CREATE TRIGGER runs_inserted AFTER INSERT ON runs
FOR EACH ROW
WHEN (NEW.status = 'STOPPED')
EXECUTE FUNCTION count_stopped_run();
CREATE TRIGGER runs_stopped AFTER UPDATE OF status ON runs
FOR EACH ROW
WHEN (NEW.status = 'STOPPED' AND OLD.status <> 'STOPPED')
EXECUTE FUNCTION count_stopped_run();
CREATE TRIGGER runs_deleted AFTER DELETE ON runs
FOR EACH ROW
WHEN (OLD.status = 'STOPPED')
EXECUTE FUNCTION count_stopped_run();
-- What a stopped run is counted by does not change any more.
CREATE FUNCTION refuse_change_of_stopped_run() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a stopped run stays what it was' USING ERRCODE = 'check_violation';
END
$$;
CREATE TRIGGER runs_stay_stopped
BEFORE UPDATE OF status, definition_id, alias, group_name, image, cluster, owner ON runs
FOR EACH ROW
WHEN (OLD.status = 'STOPPED'
 AND (NEW.status, NEW.definition_id, COALESCE(NEW.alias, ''), NEW.group_name, NEW.image, NEW.cluster, NEW.owner)
  <> (OLD.status, OLD.definition_id, COALESCE(OLD.alias, ''), OLD.group_name, OLD.image, OLD.cluster, OLD.owner))
EXECUTE FUNCTION refuse_change_of_stopped_run();

-- One row each time a run was handed to an engine; cleaned_at says that nothing of it is left there.
CREATE TABLE attempts (
    run_id TEXT COLLATE "C" NOT NULL REFERENCES runs (run_id),
    attempt BIGINT NOT NULL,
    resolved_cluster TEXT COLLATE "C" NOT NULL,
    node TEXT COLLATE "C" NOT NULL,
    handle TEXT COLLATE "C",
    created_at BIGINT NOT NULL,
    cleaned_at BIGINT,
    PRIMARY KEY (run_id, attempt)
);
CREATE INDEX attempts_active ON attempts (resolved_cluster, run_id, attempt) WHERE cleaned_at IS NULL;

CREATE TABLE events (
    event_id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id TEXT COLLATE "C" NOT NULL REFERENCES runs (run_id),
    timestamp BIGINT NOT NULL,
    event_type TEXT COLLATE "C" NOT NULL CHECK (event_type IN ('Normal', 'Warning')),
    reason TEXT COLLATE "C" NOT NULL,
    source_object TEXT COLLATE "C" NOT NULL,
    message TEXT COLLATE "C" NOT NULL
);
CREATE INDEX events_by_run ON events (run_id, event_id);

CREATE TABLE idempotence_keys (
    idempotence_key TEXT COLLATE "C" PRIMARY KEY,
    run_id TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL
);

-- One row: tells what this database has started from what another has.
CREATE TABLE installation (
    singleton BIGINT PRIMARY KEY CHECK (singleton = 1),
    installation_id TEXT NOT NULL
);
