-- Runs of workflows and their steps. A row of a step says what came of it; steps that wait or run
-- have none, but for those that failed before and are tried again.

-- name: schema
CREATE TABLE IF NOT EXISTS runs (
    seq             INTEGER PRIMARY KEY, -- the order of their start
    id              TEXT NOT NULL UNIQUE,
    workflow        TEXT NOT NULL,
    revision        TEXT NOT NULL,
    state           TEXT NOT NULL
        CHECK (state IN ('running', 'succeeded', 'failed', 'cancelled')),
    called_off      INTEGER NOT NULL DEFAULT 0, -- 1: somebody wants it cancelled
    tenant          TEXT NOT NULL,
    key_id          TEXT NOT NULL DEFAULT '',   -- of the API key; '' for none
    caller          TEXT NOT NULL,
    idempotency_key TEXT,
    digest          BLOB NOT NULL,              -- of the inputs
    traceparent     TEXT,
    cause           TEXT,                       -- the event that it follows from, as JSON
    retry_of        TEXT,
    pins            TEXT NOT NULL,              -- revisions by function, as JSON
    inputs          TEXT NOT NULL,              -- a document of values by name
    started_at_us   INTEGER NOT NULL,
    finished_at_us  INTEGER,
    held_us         INTEGER NOT NULL DEFAULT 0, -- of all calls that have ended, as is
    cost_nano       INTEGER NOT NULL DEFAULT 0,
    content_type    TEXT,                       -- the output's
    size_bytes      INTEGER,
    body            BLOB,                       -- inline, or
    body_ref        TEXT,                       -- in the blob store
    name            TEXT,
    error           TEXT                        -- an error's document
) STRICT;

CREATE UNIQUE INDEX IF NOT EXISTS runs_by_key
    ON runs (tenant, workflow, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX IF NOT EXISTS runs_under_way ON runs (seq) WHERE state = 'running';
CREATE INDEX IF NOT EXISTS runs_by_workflow ON runs (workflow, seq);
CREATE INDEX IF NOT EXISTS runs_by_workflow_and_state ON runs (workflow, state, seq);
CREATE INDEX IF NOT EXISTS runs_by_tenant ON runs (tenant, seq);
CREATE INDEX IF NOT EXISTS runs_by_revision ON runs (revision);
CREATE INDEX IF NOT EXISTS runs_by_state ON runs (state, seq);
CREATE INDEX IF NOT EXISTS runs_by_retry ON runs (retry_of) WHERE retry_of IS NOT NULL;
CREATE INDEX IF NOT EXISTS runs_finished ON runs (finished_at_us)
    WHERE finished_at_us IS NOT NULL;

CREATE TABLE IF NOT EXISTS steps (
    seq            INTEGER PRIMARY KEY,        -- the order in which they got where they are
    run            INTEGER NOT NULL,
    step           TEXT NOT NULL,
    path           BLOB NOT NULL,              -- 4 bytes, big-endian, for each fan-out around it
    state          TEXT NOT NULL
        CHECK (state IN ('waiting', 'succeeded', 'failed', 'cancelled')),
    function       TEXT,
    revision       TEXT,
    attempts       INTEGER NOT NULL DEFAULT 0,
    not_before_us  INTEGER,                    -- of one that waits to be tried again
    stood_in       INTEGER NOT NULL DEFAULT 0, -- 1: its fallback has taken over
    started_at_us  INTEGER,
    finished_at_us INTEGER,
    busy_us        INTEGER NOT NULL DEFAULT 0, -- of all attempts, as are the next two
    held_us        INTEGER NOT NULL DEFAULT 0,
    cost_nano      INTEGER NOT NULL DEFAULT 0,
    cached         INTEGER NOT NULL DEFAULT 0,
    invocations    TEXT NOT NULL DEFAULT '',   -- ids, with a blank between them
    outcome        INTEGER,                    -- a decision's branch, a fan-out's items
    content_type   TEXT,                       -- the result's
    size_bytes     INTEGER,
    body           BLOB,
    body_ref       TEXT,
    name           TEXT,
    error          TEXT,                       -- an error's document
    UNIQUE (run, step, path)
) STRICT;

-- Whose a large result is.
CREATE INDEX IF NOT EXISTS steps_by_blob ON steps (body_ref) WHERE body_ref IS NOT NULL;
CREATE INDEX IF NOT EXISTS runs_by_blob ON runs (body_ref) WHERE body_ref IS NOT NULL;

CREATE TABLE IF NOT EXISTS run_usage (
    seq   INTEGER PRIMARY KEY,
    usage TEXT NOT NULL                        -- a row that the ledger may not have yet
) STRICT;

-- name: insert_run
INSERT INTO runs (
    id, workflow, revision, state, tenant, key_id, caller, idempotency_key, digest, traceparent,
    cause, retry_of, pins, inputs, started_at_us
) VALUES (?, ?, ?, 'running', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: by_key
SELECT id, digest FROM runs WHERE tenant = ? AND workflow = ? AND idempotency_key = ?;

-- name: by_key_and_prefix
-- Of workflows whose names begin alike: from the prefix up to the next one.
SELECT id FROM runs
WHERE tenant = ? AND workflow >= ? AND workflow < ? AND idempotency_key = ?
ORDER BY seq LIMIT 1;

-- name: under_way
SELECT id FROM runs WHERE state = 'running' ORDER BY seq;

-- name: to_resume
SELECT seq, id, workflow, revision, tenant, key_id, caller, traceparent, cause, retry_of, pins,
    inputs, called_off, started_at_us, held_us, cost_nano
FROM runs WHERE id = ?;

-- name: call_off
UPDATE runs SET called_off = 1 WHERE id = ? AND state = 'running';

-- name: finish_unread
UPDATE runs SET state = 'failed', finished_at_us = ?2, error = ?3
WHERE id = ?1 AND state = 'running';

-- name: spend
UPDATE runs SET held_us = held_us + ?2, cost_nano = cost_nano + ?3 WHERE seq = ?1;

-- name: finish
-- A run ends once.
UPDATE runs SET state = ?2, finished_at_us = ?3, error = ?4, content_type = ?5, size_bytes = ?6,
    body = ?7, body_ref = ?8, name = ?9
WHERE seq = ?1 AND state = 'running';

-- name: put_step
INSERT OR REPLACE INTO steps (
    run, step, path, state, function, revision, attempts, not_before_us, stood_in, started_at_us,
    finished_at_us, busy_us, held_us, cost_nano, cached, invocations, outcome, content_type,
    size_bytes, body, body_ref, name, error
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: take_over
-- Of a run that is tried again: what it finished cost what it did there, and nothing here.
INSERT INTO steps (
    run, step, path, state, function, revision, started_at_us, finished_at_us, cached, outcome,
    content_type, size_bytes, body, body_ref, name
)
SELECT ?2, step, path, state, function, revision, started_at_us, finished_at_us, cached, outcome,
    content_type, size_bytes, body, body_ref, name
FROM steps WHERE run = (SELECT seq FROM runs WHERE id = ?1) AND state = 'succeeded' ORDER BY seq;

-- name: settled
SELECT step, path, outcome FROM steps WHERE run = ? AND state = 'succeeded';

-- name: unsettled
SELECT step, path, state, attempts, not_before_us, stood_in, started_at_us, busy_us, held_us,
    cost_nano, invocations, error
FROM steps WHERE run = ? AND state <> 'succeeded';

-- name: results_from
-- The results of one step for the items from this one on.
SELECT path, content_type, size_bytes, body, body_ref, name
FROM steps WHERE run = ? AND step = ? AND path >= ? ORDER BY path LIMIT ?;

-- name: outcome
SELECT outcome FROM steps WHERE run = ? AND step = ? AND path = ?;

-- name: insert_usage
INSERT INTO run_usage (usage) VALUES (?);

-- name: unposted
SELECT seq, usage FROM run_usage WHERE seq > ? ORDER BY seq LIMIT ?;

-- name: posted
DELETE FROM run_usage WHERE seq <= ?;

-- name: get
SELECT id, workflow, revision, state, tenant, caller, started_at_us, finished_at_us, held_us,
    cost_nano, content_type, size_bytes, body, body_ref, name, error, retry_of
FROM runs WHERE id = ?;

-- name: seq
SELECT seq FROM runs WHERE id = ?;

-- name: inputs
SELECT inputs FROM runs WHERE id = ?;

-- name: list
-- Conditions, an order and a limit go on from here.
SELECT id, workflow, revision, state, tenant, caller, started_at_us, finished_at_us, held_us,
    cost_nano, content_type, size_bytes, body, body_ref, name, error, retry_of
FROM runs WHERE seq < ?

-- name: is_dead
-- One that failed and was not tried again.
SELECT 1 FROM runs WHERE id = ?1 AND state = 'failed'
    AND NOT EXISTS (SELECT 1 FROM runs AS later WHERE later.retry_of = ?1);

-- name: steps
SELECT seq, step, path, state, function, revision, attempts, started_at_us, finished_at_us,
    busy_us, held_us, cost_nano, cached, invocations, error, outcome
FROM steps WHERE run = ? AND seq > ? ORDER BY seq LIMIT ?;

-- name: outermost
SELECT step, outcome FROM steps WHERE run = ? AND path = x'';

-- name: pins
SELECT DISTINCT pins FROM runs WHERE state = 'running';

-- name: revisions
SELECT DISTINCT revision FROM runs;

-- name: ended_before
SELECT seq FROM runs WHERE finished_at_us < ? ORDER BY finished_at_us LIMIT 1;

-- name: prune_steps
DELETE FROM steps WHERE seq IN (SELECT seq FROM steps WHERE run = ? LIMIT ?);

-- name: prune_run
DELETE FROM runs WHERE seq = ?;

-- name: references
SELECT body_ref FROM steps WHERE body_ref IS NOT NULL
UNION ALL SELECT body_ref FROM runs WHERE body_ref IS NOT NULL;

-- name: texts
-- What may name blobs in its text.
SELECT inputs FROM runs WHERE inputs LIKE '%blob:sha256:%';
