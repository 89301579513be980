-- Who may decide, until when, and how often it has changed hands: see src/store/leases.rs. Rows stay, for an
-- epoch never falls.
CREATE TABLE leases (
    name TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    details TEXT NOT NULL,
    epoch INTEGER NOT NULL CHECK (epoch > 0),
    expires_at INTEGER NOT NULL
) STRICT;
