-- One row: the time by which logs and idempotence keys grow old. It follows the clock no faster than servers see time pass,
-- so that a wrong clock deletes little. A database that was used before begins where its last run was launched.
CREATE TABLE kept_time (
    singleton INTEGER PRIMARY KEY CHECK (singleton = 1),
    time INTEGER NOT NULL
) STRICT;
INSERT INTO kept_time (singleton, time) SELECT 1, MAX(queued_at) FROM runs HAVING MAX(queued_at) IS NOT NULL;
