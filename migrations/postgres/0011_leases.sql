-- Who may decide, until when, and how often it has changed hands: see src/store/leases.rs. Rows stay, for an
-- epoch never falls.
CREATE TABLE leases (
    name TEXT COLLATE "C" PRIMARY KEY,
    holder TEXT COLLATE "C" NOT NULL,
    details TEXT COLLATE "C" NOT NULL,
    epoch BIGINT NOT NULL CHECK (epoch > 0),
    expires_at BIGINT NOT NULL
);
