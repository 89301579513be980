-- What operators say of clusters. One that nobody has said anything about has no row; one with settings was created by
-- a request, and is in no configuration file.
CREATE TABLE clusters (
    name TEXT PRIMARY KEY,
    status TEXT NOT NULL CHECK (status IN ('active', 'maintenance', 'offline')),
    status_reason TEXT NOT NULL,
    status_since INTEGER NOT NULL,
    details TEXT NOT NULL,
    settings TEXT,
    updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
