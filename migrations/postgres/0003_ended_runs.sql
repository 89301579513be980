-- How many runs ended in each hour, by outcome. What the overview draws of them so takes no longer with more history.
-- `hour` counts from 1970. Runs that are deleted did end all the same. Each count is the sum of several shares, so that
-- runs which end at the same moment don't wait for one another.
CREATE TABLE ended_runs (
    hour BIGINT NOT NULL,
    outcome TEXT COLLATE "C" NOT NULL,
    share BIGINT NOT NULL,
    runs BIGINT NOT NULL,
    PRIMARY KEY (hour, outcome, share)
) WITH (fillfactor = 50);
INSERT INTO ended_runs (hour, outcome, share, runs)
SELECT finished_at / 3600000000, outcome, 0, COUNT(*) FROM runs WHERE status = 'STOPPED' GROUP BY 1, 2;

CREATE FUNCTION count_ended_run() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ended_runs (hour, outcome, share, runs)
    VALUES (NEW.finished_at / 3600000000, NEW.outcome, pg_backend_pid() % 16, 1)
    ON CONFLICT (hour, outcome, share) DO UPDATE SET runs = ended_runs.runs + 1;
    RETURN NULL;
END
$$;
CREATE TRIGGER runs_ended AFTER UPDATE OF status ON runs
FOR EACH ROW
WHEN (NEW.status = 'STOPPED' AND OLD.status <> 'STOPPED')
EXECUTE FUNCTION count_ended_run();
CREATE TRIGGER runs_inserted_ended AFTER INSERT ON runs
FOR EACH ROW
WHEN (NEW.status = 'STOPPED')
EXECUTE FUNCTION count_ended_run();

-- The runs that somebody has to look at, few beside those that went well.
CREATE INDEX runs_failed ON runs (finished_at, run_id) WHERE outcome IN ('failed', 'timed_out', 'lost', 'rejected');
