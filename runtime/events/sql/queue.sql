-- Deliveries: calls that wait on disk until a function has taken them.

-- name: schema
CREATE TABLE IF NOT EXISTS deliveries (
    seq             INTEGER PRIMARY KEY, -- the order of arrival
    id              TEXT NOT NULL UNIQUE,
    kind            TEXT NOT NULL CHECK (kind IN ('call', 'event', 'run')),
    function        TEXT NOT NULL, -- or workflow, of a run
    revision        TEXT,
    tenant          TEXT NOT NULL,
    key_id          TEXT NOT NULL DEFAULT '', -- of the API key; '' for none
    caller          TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    content_type    TEXT NOT NULL,
    accept          TEXT NOT NULL,
    digest          BLOB NOT NULL, -- of content type and body
    body            BLOB,          -- inline, or
    body_ref        TEXT,          -- in the blob store; neither once it is no longer needed
    state           TEXT NOT NULL
        CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'dead')),
    tries           INTEGER NOT NULL DEFAULT 0, -- times it was handed out
    attempts        INTEGER NOT NULL DEFAULT 0, -- times the function failed it or took it
    not_before_us   INTEGER NOT NULL,
    created_at_us   INTEGER NOT NULL,
    finished_at_us  INTEGER,
    error           TEXT,          -- the last error's document
    answer          TEXT,          -- the answer's document, without its body
    result          BLOB,
    result_ref      TEXT,
    stuck_answers   INTEGER NOT NULL DEFAULT 0, -- attempts whose answer could not go on
    UNIQUE (tenant, function, idempotency_key)
) STRICT;

CREATE INDEX IF NOT EXISTS deliveries_due
    ON deliveries (function, not_before_us, seq) WHERE state = 'queued';
CREATE INDEX IF NOT EXISTS deliveries_running ON deliveries (id) WHERE state = 'running';
CREATE INDEX IF NOT EXISTS deliveries_finished
    ON deliveries (finished_at_us) WHERE finished_at_us IS NOT NULL;

CREATE INDEX IF NOT EXISTS deliveries_bodies
    ON deliveries (body_ref) WHERE body_ref IS NOT NULL;
CREATE INDEX IF NOT EXISTS deliveries_results
    ON deliveries (result_ref) WHERE result_ref IS NOT NULL;
CREATE INDEX IF NOT EXISTS deliveries_dead ON deliveries (seq) WHERE state = 'dead';

-- Deliveries that were given up and then queued again: what came before does not count.
CREATE TABLE IF NOT EXISTS delivery_replays (
    seq      INTEGER PRIMARY KEY REFERENCES deliveries (seq) ON DELETE CASCADE,
    attempts INTEGER NOT NULL, -- until then
    at_us    INTEGER NOT NULL
) STRICT;

-- Counting a long queue takes long; these rows are kept right by the triggers below.
CREATE TABLE IF NOT EXISTS delivery_counts (
    state TEXT PRIMARY KEY,
    rows  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT OR IGNORE INTO delivery_counts (state, rows)
VALUES ('queued', 0), ('running', 0), ('succeeded', 0), ('failed', 0), ('dead', 0);

CREATE TRIGGER IF NOT EXISTS deliveries_count_insert AFTER INSERT ON deliveries
BEGIN
    UPDATE delivery_counts SET rows = rows + 1 WHERE state = NEW.state;
END;

CREATE TRIGGER IF NOT EXISTS deliveries_count_update AFTER UPDATE OF state ON deliveries
WHEN OLD.state <> NEW.state
BEGIN
    UPDATE delivery_counts SET rows = rows - 1 WHERE state = OLD.state;
    UPDATE delivery_counts SET rows = rows + 1 WHERE state = NEW.state;
END;

CREATE TRIGGER IF NOT EXISTS deliveries_count_delete AFTER DELETE ON deliveries
BEGIN
    UPDATE delivery_counts SET rows = rows - 1 WHERE state = OLD.state;
END;

-- name: insert
INSERT INTO deliveries (
    id, kind, function, revision, tenant, key_id, caller, idempotency_key, content_type, accept,
    digest, body, body_ref, state, not_before_us, created_at_us
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'queued', ?, ?)
ON CONFLICT (tenant, function, idempotency_key) DO NOTHING;

-- name: by_key
SELECT id, digest FROM deliveries WHERE tenant = ? AND function = ? AND idempotency_key = ?;

-- name: count
SELECT rows FROM delivery_counts WHERE state = ?;

-- name: due_functions
-- Jumps from one function to the next in the index: its cost is that of the functions, not
-- of the rows.
WITH RECURSIVE waiting (name) AS (
    SELECT min(function) FROM deliveries WHERE state = 'queued'
    UNION ALL
    SELECT (SELECT min(function) FROM deliveries WHERE state = 'queued' AND function > name)
    FROM waiting WHERE name IS NOT NULL
)
SELECT name FROM waiting
WHERE name IS NOT NULL AND (
    SELECT min(not_before_us) FROM deliveries WHERE state = 'queued' AND function = name
) <= ?;

-- name: claim
UPDATE deliveries SET state = 'running', tries = tries + 1
WHERE seq = (
    SELECT seq FROM deliveries
    WHERE state = 'queued' AND function = ? AND not_before_us <= ?
    ORDER BY not_before_us, seq LIMIT 1
)
RETURNING id, kind, function, revision, tenant, key_id, caller, idempotency_key, content_type,
    accept, body, body_ref, tries, attempts,
    coalesce((SELECT at_us FROM delivery_replays r WHERE r.seq = deliveries.seq), created_at_us),
    coalesce((SELECT r.attempts FROM delivery_replays r WHERE r.seq = deliveries.seq), 0),
    stuck_answers;

-- name: requeue
-- Handed out, but nothing came of it: as if it had not been.
UPDATE deliveries SET state = 'queued', not_before_us = ?2, error = ?3
WHERE id = ?1 AND state = 'running';

-- name: retry
UPDATE deliveries SET state = 'queued', attempts = attempts + 1, not_before_us = ?2, error = ?3
WHERE id = ?1 AND state = 'running';

-- name: succeed
UPDATE deliveries SET state = 'succeeded', attempts = attempts + 1, finished_at_us = ?2,
    error = NULL, answer = ?3, result = ?4, result_ref = ?5, body = NULL, body_ref = NULL
WHERE id = ?1 AND state = 'running';

-- name: fail
UPDATE deliveries SET state = 'failed', attempts = attempts + 1, finished_at_us = ?2,
    error = ?3, body = NULL, body_ref = NULL
WHERE id = ?1 AND state = 'running';

-- name: bury
-- The body stays: it is the only copy of what was not delivered.
UPDATE deliveries SET state = 'dead', attempts = attempts + ?4, finished_at_us = ?2, error = ?3,
    stuck_answers = stuck_answers + ?5
WHERE id = ?1 AND state <> 'dead';

-- name: running
SELECT id FROM deliveries WHERE state = 'running';

-- name: get
SELECT id, tenant, function, revision, state, attempts, created_at_us, finished_at_us, error, answer
FROM deliveries WHERE id = ?;

-- name: result
SELECT answer, result, result_ref FROM deliveries WHERE id = ? AND state = 'succeeded';

-- name: prune
DELETE FROM deliveries WHERE seq IN (
    SELECT seq FROM deliveries
    WHERE finished_at_us IS NOT NULL
        AND finished_at_us < CASE state WHEN 'dead' THEN ?2 ELSE ?1 END
    ORDER BY finished_at_us LIMIT ?3
);

-- name: references
-- Bodies that are inline may refer to blobs, too: a call's with "$ref", an event's with "dataref".
SELECT body_ref FROM deliveries WHERE body_ref IS NOT NULL
UNION ALL
SELECT result_ref FROM deliveries WHERE result_ref IS NOT NULL
UNION ALL
SELECT body FROM deliveries
WHERE body IS NOT NULL AND instr(body, CAST('blob:sha256:' AS BLOB)) > 0;
