-- Events that were accepted: what makes a repeat do nothing.

-- name: schema
CREATE TABLE IF NOT EXISTS events (
    source         TEXT NOT NULL,
    id             TEXT NOT NULL,
    digest         BLOB NOT NULL, -- of everything the event says
    accepted_at_us INTEGER NOT NULL,
    PRIMARY KEY (source, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS events_by_age ON events (accepted_at_us);

-- name: digest
SELECT digest FROM events WHERE source = ? AND id = ?;

-- name: insert
INSERT INTO events (source, id, digest, accepted_at_us) VALUES (?, ?, ?, ?);

-- name: prune
DELETE FROM events WHERE (source, id) IN (
    SELECT source, id FROM events WHERE accepted_at_us < ? ORDER BY accepted_at_us LIMIT ?
);
