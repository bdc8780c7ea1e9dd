-- Results of steps that said `cache`: what the same revision gives for the same input.

-- name: schema
CREATE TABLE IF NOT EXISTS cached_results (
    revision     TEXT NOT NULL,
    digest       BLOB NOT NULL, -- of the call's content type and body
    content_type TEXT NOT NULL,
    size_bytes   INTEGER NOT NULL,
    name         TEXT,
    body         BLOB,          -- inline, or
    body_ref     TEXT,          -- in the blob store
    stored_at_us INTEGER NOT NULL,
    PRIMARY KEY (revision, digest)
) STRICT;

CREATE INDEX IF NOT EXISTS cached_results_by_age ON cached_results (stored_at_us);

-- name: get
SELECT content_type, size_bytes, body, body_ref, name
FROM cached_results WHERE revision = ? AND digest = ?;

-- name: put
-- Of two steps that ran at the same time the first one's result stays.
INSERT INTO cached_results (
    revision, digest, content_type, size_bytes, body, body_ref, name, stored_at_us
) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (revision, digest) DO NOTHING;

-- name: prune
DELETE FROM cached_results WHERE rowid IN (
    SELECT rowid FROM (
        SELECT rowid, stored_at_us, row_number() OVER (ORDER BY stored_at_us DESC) AS place
        FROM cached_results
    )
    WHERE stored_at_us < ?1 OR place > ?2
    ORDER BY stored_at_us LIMIT ?3
);

-- name: references
SELECT body_ref FROM cached_results WHERE body_ref IS NOT NULL;
