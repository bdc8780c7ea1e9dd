-- Events that were accepted: what makes a repeat do nothing.

-- name: schema
CREATE TABLE IF NOT EXISTS accepted_events (
    tenant         TEXT NOT NULL,
    source         TEXT NOT NULL,
    id             TEXT NOT NULL,
    digest         BLOB NOT NULL, -- of everything the event says
    accepted_at_us INTEGER NOT NULL,
    PRIMARY KEY (tenant, source, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS accepted_events_by_age ON accepted_events (accepted_at_us);

-- name: old_table
SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'events';

-- name: take_over
INSERT OR IGNORE INTO accepted_events (tenant, source, id, digest, accepted_at_us)
SELECT ?, source, id, digest, accepted_at_us FROM events;

-- name: drop_old_table
DROP TABLE events;

-- name: digest
SELECT digest FROM accepted_events WHERE tenant = ? AND source = ? AND id = ?;

-- name: insert
INSERT INTO accepted_events (tenant, source, id, digest, accepted_at_us) VALUES (?, ?, ?, ?, ?);

-- name: prune
DELETE FROM accepted_events WHERE (tenant, source, id) IN (
    SELECT tenant, source, id FROM accepted_events
    WHERE accepted_at_us < ? ORDER BY accepted_at_us LIMIT ?
);
