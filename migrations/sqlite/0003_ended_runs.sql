-- How many runs ended in each hour, by outcome. What the overview draws of them so takes no longer with more history.
-- `hour` counts from 1970. Runs that are deleted did end all the same.
CREATE TABLE ended_runs (
    hour INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    runs INTEGER NOT NULL,
    PRIMARY KEY (hour, outcome)
) STRICT, WITHOUT ROWID;
INSERT INTO ended_runs (hour, outcome, runs)
SELECT finished_at / 3600000000, outcome, COUNT(*) FROM runs WHERE status = 'STOPPED' GROUP BY 1, 2;

CREATE TRIGGER runs_ended AFTER UPDATE OF status ON runs
WHEN NEW.status = 'STOPPED' AND OLD.status <> 'STOPPED'
BEGIN
    INSERT INTO ended_runs (hour, outcome, runs)
    VALUES (NEW.finished_at / 3600000000, NEW.outcome, 1)
    ON CONFLICT (hour, outcome) DO UPDATE SET runs = runs + 1;
END;
CREATE TRIGGER runs_inserted_ended AFTER INSERT ON runs
WHEN NEW.status = 'STOPPED'
BEGIN
    INSERT INTO ended_runs (hour, outcome, runs)
    VALUES (NEW.finished_at / 3600000000, NEW.outcome, 1)
    ON CONFLICT (hour, outcome) DO UPDATE SET runs = runs + 1;
END;

-- The runs that somebody has to look at, few beside those that went well.
CREATE INDEX runs_failed ON runs (finished_at, run_id) WHERE outcome IN ('failed', 'timed_out', 'lost', 'rejected');
