-- How many runs waited for a cluster, as far as was looked: the most that were seen within five minutes. Where there is no
-- row, none was seen waiting.
CREATE TABLE queue_depths (
    from_time INTEGER NOT NULL,
    resolved_cluster TEXT NOT NULL,
    waiting INTEGER NOT NULL CHECK (waiting > 0),
    PRIMARY KEY (from_time, resolved_cluster)
) STRICT, WITHOUT ROWID;
