-- What operators say of clusters. One that nobody has said anything about has no row; one with settings was created by
-- a request, and is in no configuration file.
CREATE TABLE clusters (
    name TEXT COLLATE "C" PRIMARY KEY,
    status TEXT COLLATE "C" NOT NULL CHECK (status IN ('active', 'maintenance', 'offline')),
    status_reason TEXT COLLATE "C" NOT NULL,
    status_since BIGINT NOT NULL,
    details TEXT COLLATE "C" NOT NULL,
    settings TEXT COLLATE "C",
    updated_at BIGINT NOT NULL
);
