-- Lists of runs are filtered by outcome and by the cluster that was really meant as well, so stopped runs are counted by
-- both, too.
DROP TRIGGER runs_inserted;
DROP TRIGGER runs_stopped;
DROP TRIGGER runs_deleted;
DROP TRIGGER runs_stay_stopped;
DROP TABLE stopped_runs;
CREATE TABLE stopped_runs (
    definition_id TEXT NOT NULL,
    alias TEXT,
    group_name TEXT NOT NULL,
    image TEXT NOT NULL,
    cluster TEXT NOT NULL,
    resolved_cluster TEXT NOT NULL,
    owner TEXT NOT NULL,
    outcome TEXT NOT NULL,
    runs INTEGER NOT NULL
) STRICT;
INSERT INTO stopped_runs (definition_id, alias, group_name, image, cluster, resolved_cluster, owner, outcome, runs)
SELECT definition_id, alias, group_name, image, cluster, resolved_cluster, owner, outcome, COUNT(*)
FROM runs WHERE status = 'STOPPED' GROUP BY 1, 2, 3, 4, 5, 6, 7, 8;
CREATE UNIQUE INDEX stopped_runs_by_all ON stopped_runs
    (definition_id, COALESCE(alias, ''), group_name, image, cluster, resolved_cluster, owner, outcome);

CREATE TRIGGER runs_inserted AFTER INSERT ON runs
WHEN NEW.status = 'STOPPED'
BEGIN
    INSERT INTO stopped_runs (definition_id, alias, group_name, image, cluster, resolved_cluster, owner, outcome, runs)
    VALUES (NEW.definition_id, NEW.alias, NEW.group_name, NEW.image, NEW.cluster, NEW.resolved_cluster, NEW.owner, NEW.outcome, 1)
    ON CONFLICT (definition_id, COALESCE(alias, ''), group_name, image, cluster, resolved_cluster, owner, outcome)
    DO UPDATE SET runs = runs + 1;
END;
CREATE TRIGGER runs_stopped AFTER UPDATE OF status ON runs
WHEN NEW.status = 'STOPPED' AND OLD.status <> 'STOPPED'
BEGIN
    INSERT INTO stopped_runs (definition_id, alias, group_name, image, cluster, resolved_cluster, owner, outcome, runs)
    VALUES (NEW.definition_id, NEW.alias, NEW.group_name, NEW.image, NEW.cluster, NEW.resolved_cluster, NEW.owner, NEW.outcome, 1)
    ON CONFLICT (definition_id, COALESCE(alias, ''), group_name, image, cluster, resolved_cluster, owner, outcome)
    DO UPDATE SET runs = runs + 1;
END;
CREATE TRIGGER runs_deleted AFTER DELETE ON runs
WHEN OLD.status = 'STOPPED'
BEGIN
    UPDATE stopped_runs SET runs = runs - 1
    WHERE definition_id = OLD.definition_id AND COALESCE(alias, '') = COALESCE(OLD.alias, '')
      AND group_name = OLD.group_name AND image = OLD.image AND cluster = OLD.cluster AND resolved_cluster = OLD.resolved_cluster AND owner = OLD.owner
      AND outcome = OLD.outcome;
END;
-- What a stopped run is counted by does not change any more.
CREATE TRIGGER runs_stay_stopped
BEFORE UPDATE OF status, definition_id, alias, group_name, image, cluster, resolved_cluster, owner, outcome ON runs
WHEN OLD.status = 'STOPPED'
 AND (NEW.status, NEW.definition_id, COALESCE(NEW.alias, ''), NEW.group_name, NEW.image, NEW.cluster, NEW.resolved_cluster, NEW.owner, COALESCE(NEW.outcome, ''))
  <> (OLD.status, OLD.definition_id, COALESCE(OLD.alias, ''), OLD.group_name, OLD.image, OLD.cluster, OLD.resolved_cluster, OLD.owner, OLD.outcome)
BEGIN
    SELECT RAISE(ABORT, 'a stopped run stays what it was');
END;

-- Few beside those that went well, which are found among all.
CREATE INDEX runs_unsuccessful ON runs (queued_at, run_id) WHERE outcome <> 'succeeded';
CREATE INDEX runs_by_resolved_cluster ON runs (resolved_cluster, queued_at, run_id);
