-- Lists of runs are filtered by outcome and by the cluster that was really meant as well, so stopped runs are counted by
-- both, too.
DROP INDEX stopped_runs_by_all;
TRUNCATE stopped_runs;
ALTER TABLE stopped_runs ADD COLUMN resolved_cluster TEXT COLLATE "C" NOT NULL, ADD COLUMN outcome TEXT COLLATE "C" NOT NULL;
INSERT INTO stopped_runs (definition_id, alias, group_name, image, cluster, resolved_cluster, owner, outcome, share, runs)
SELECT definition_id, alias, group_name, image, cluster, resolved_cluster, owner, outcome, 0, COUNT(*)
FROM runs WHERE status = 'STOPPED' GROUP BY 1, 2, 3, 4, 5, 6, 7, 8;
CREATE UNIQUE INDEX stopped_runs_by_all ON stopped_runs
    (definition_id, COALESCE(alias, ''), group_name, image, cluster, resolved_cluster, owner, outcome, share);

CREATE OR REPLACE FUNCTION count_stopped_run() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    run runs := CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
    change BIGINT := CASE TG_OP WHEN 'DELETE' THEN -1 ELSE 1 END;
BEGIN
    INSERT INTO stopped_runs (definition_id, alias, group_name, image, cluster, resolved_cluster, owner, outcome, share, runs)
    VALUES (run.definition_id, run.alias, run.group_name, run.image, run.cluster, run.resolved_cluster, run.owner, run.outcome, pg_backend_pid() % 16, change)
    ON CONFLICT (definition_id, COALESCE(alias, ''), group_name, image, cluster, resolved_cluster, owner, outcome, share)
    DO UPDATE SET runs = stopped_runs.runs + change;
    RETURN NULL;
END
$$;
-- What a stopped run is counted by does not change any more.
DROP TRIGGER runs_stay_stopped ON runs;
CREATE TRIGGER runs_stay_stopped
BEFORE UPDATE OF status, definition_id, alias, group_name, image, cluster, resolved_cluster, owner, outcome ON runs
FOR EACH ROW
WHEN (OLD.status = 'STOPPED'
 AND (NEW.status, NEW.definition_id, COALESCE(NEW.alias, ''), NEW.group_name, NEW.image, NEW.cluster, NEW.resolved_cluster, NEW.owner, COALESCE(NEW.outcome, ''))
  <> (OLD.status, OLD.definition_id, COALESCE(OLD.alias, ''), OLD.group_name, OLD.image, OLD.cluster, OLD.resolved_cluster, OLD.owner, OLD.outcome))
EXECUTE FUNCTION refuse_change_of_stopped_run();

-- Few beside those that went well, which are found among all.
CREATE INDEX runs_unsuccessful ON runs (queued_at, run_id) WHERE outcome <> 'succeeded';
CREATE INDEX runs_by_resolved_cluster ON runs (resolved_cluster, queued_at, run_id);
