CREATE TABLE definitions (
    definition_id TEXT PRIMARY KEY,
    alias TEXT,
    group_name TEXT NOT NULL,
    image TEXT NOT NULL,
    memory_mb INTEGER,
    cpu_millis INTEGER,
    task TEXT NOT NULL,
    task_type TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    deregistered_at INTEGER
) STRICT;
CREATE UNIQUE INDEX definitions_by_alias ON definitions (alias) WHERE deregistered_at IS NULL;
CREATE INDEX definitions_by_group ON definitions (group_name, definition_id) WHERE deregistered_at IS NULL;
CREATE INDEX definitions_by_image ON definitions (image, definition_id) WHERE deregistered_at IS NULL;

-- The tags of live definitions only.
CREATE TABLE definition_tags (
    tag TEXT NOT NULL,
    definition_id TEXT NOT NULL REFERENCES definitions (definition_id),
    PRIMARY KEY (tag, definition_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX definition_tags_by_definition ON definition_tags (definition_id);

CREATE TABLE runs (
    run_id TEXT PRIMARY KEY,
    definition_id TEXT NOT NULL REFERENCES definitions (definition_id),
    alias TEXT,
    group_name TEXT NOT NULL,
    image TEXT NOT NULL,
    cluster TEXT NOT NULL,
    -- The cluster that `cluster` meant when the run was launched: `default` may come to mean another.
    resolved_cluster TEXT NOT NULL,
    engine TEXT NOT NULL,
    owner TEXT NOT NULL,
    memory_mb INTEGER,
    cpu_millis INTEGER,
    parent_run_id TEXT,
    task TEXT NOT NULL,
    execution TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('QUEUED', 'PENDING', 'RUNNING', 'NEEDS_RETRY', 'STOPPED')),
    outcome TEXT CHECK (outcome IN ('succeeded', 'failed', 'stopped', 'timed_out', 'lost', 'rejected')),
    exit_code INTEGER,
    exit_reason TEXT,
    queued_at INTEGER NOT NULL,
    started_at INTEGER,
    finished_at INTEGER,
    due_at INTEGER,
    stop_at INTEGER,
    stop_cause TEXT CHECK (stop_cause IN ('request', 'parent', 'deadline')),
    attempt_count INTEGER NOT NULL CHECK (attempt_count >= 0),
    claim TEXT,
    instance_id TEXT NOT NULL,
    instance_dns_name TEXT NOT NULL,
    max_memory_bytes INTEGER,
    max_cpu_millis INTEGER,
    cpu_time_ms INTEGER,
    memory_limit_bytes INTEGER,
    cpu_limit_millis INTEGER,
    run_exceptions TEXT,
    image_digest TEXT,
    is_log_complete INTEGER NOT NULL CHECK (is_log_complete IN (0, 1)),
    CHECK ((status = 'STOPPED') = (outcome IS NOT NULL)),
    CHECK ((status = 'STOPPED') = (finished_at IS NOT NULL)),
    CHECK ((status = 'NEEDS_RETRY') = (due_at IS NOT NULL)),
    CHECK (status <> 'RUNNING' OR started_at IS NOT NULL),
    CHECK (exit_code IS NULL OR status = 'STOPPED'),
    CHECK ((stop_at IS NULL) = (stop_cause IS NULL))
) STRICT;
CREATE INDEX runs_by_queued_at ON runs (queued_at, run_id);
CREATE INDEX runs_by_started_at ON runs (COALESCE(started_at, 9223372036854775807), run_id);
CREATE INDEX runs_by_finished_at ON runs (COALESCE(finished_at, 9223372036854775807), run_id);
-- The likely narrowest come last: SQLite takes the last of those that look equal to it.
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
-- counting history. Whatever is done to `runs` is done here in the same transaction.
CREATE TABLE stopped_runs (
    definition_id TEXT NOT NULL,
    alias TEXT,
    group_name TEXT NOT NULL,
    image TEXT NOT NULL,
    cluster TEXT NOT NULL,
    owner TEXT NOT NULL,
    runs INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX stopped_runs_by_all ON stopped_runs
    (definition_id, COALESCE(alias, ''), group_name, image, cluster, owner);

CREATE TRIGGER runs_inserted AFTER INSERT ON runs
WHEN NEW.status = 'STOPPED'
BEGIN
    INSERT INTO stopped_runs (definition_id, alias, group_name, image, cluster, owner, runs)
    VALUES (NEW.definition_id, NEW.alias, NEW.group_name, NEW.image, NEW.cluster, NEW.owner, 1)
    ON CONFLICT (definition_id, COALESCE(alias, ''), group_name, image, cluster, owner)
    DO UPDATE SET runs = runs + 1;
END;
CREATE TRIGGER runs_stopped AFTER UPDATE OF status ON runs
WHEN NEW.status = 'STOPPED' AND OLD.status <> 'STOPPED'
BEGIN
    INSERT INTO stopped_runs (definition_id, alias, group_name, image, cluster, owner, runs)
    VALUES (NEW.definition_id, NEW.alias, NEW.group_name, NEW.image, NEW.cluster, NEW.owner, 1)
    ON CONFLICT (definition_id, COALESCE(alias, ''), group_name, image, cluster, owner)
    DO UPDATE SET runs = runs + 1;
END;
CREATE TRIGGER runs_deleted AFTER DELETE ON runs
WHEN OLD.status = 'STOPPED'
BEGIN
    UPDATE stopped_runs SET runs = runs - 1
    WHERE definition_id = OLD.definition_id AND COALESCE(alias, '') = COALESCE(OLD.alias, '')
      AND group_name = OLD.group_name AND image = OLD.image AND cluster = OLD.cluster AND owner = OLD.owner;
END;
-- What a stopped run is counted by does not change any more.
CREATE TRIGGER runs_stay_stopped
BEFORE UPDATE OF status, definition_id, alias, group_name, image, cluster, owner ON runs
WHEN OLD.status = 'STOPPED'
 AND (NEW.status, NEW.definition_id, COALESCE(NEW.alias, ''), NEW.group_name, NEW.image, NEW.cluster, NEW.owner)
  <> (OLD.status, OLD.definition_id, COALESCE(OLD.alias, ''), OLD.group_name, OLD.image, OLD.cluster, OLD.owner)
BEGIN
    SELECT RAISE(ABORT, 'a stopped run stays what it was');
END;

-- One row each time a run was handed to an engine; cleaned_at says that nothing of it is left there.
CREATE TABLE attempts (
    run_id TEXT NOT NULL REFERENCES runs (run_id),
    attempt INTEGER NOT NULL,
    resolved_cluster TEXT NOT NULL,
    node TEXT NOT NULL,
    handle TEXT,
    created_at INTEGER NOT NULL,
    cleaned_at INTEGER,
    PRIMARY KEY (run_id, attempt)
) STRICT, WITHOUT ROWID;
CREATE INDEX attempts_active ON attempts (resolved_cluster, run_id, attempt) WHERE cleaned_at IS NULL;

CREATE TABLE events (
    event_id INTEGER PRIMARY KEY,
    run_id TEXT NOT NULL REFERENCES runs (run_id),
    timestamp INTEGER NOT NULL,
    event_type TEXT NOT NULL CHECK (event_type IN ('Normal', 'Warning')),
    reason TEXT NOT NULL,
    source_object TEXT NOT NULL,
    message TEXT NOT NULL
) STRICT;
CREATE INDEX events_by_run ON events (run_id, event_id);

CREATE TABLE idempotence_keys (
    idempotence_key TEXT PRIMARY KEY,
    run_id TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- One row: tells what this database has started from what another has.
CREATE TABLE installation (
    singleton INTEGER PRIMARY KEY CHECK (singleton = 1),
    installation_id TEXT NOT NULL
) STRICT;
