-- The last canary of each function.

-- name: schema
CREATE TABLE IF NOT EXISTS canaries (
    function          TEXT PRIMARY KEY REFERENCES functions (name) ON DELETE CASCADE,
    revision          TEXT NOT NULL,
    baseline          TEXT NOT NULL,
    percent           INTEGER NOT NULL,
    promote_after_s   REAL NOT NULL,
    max_error_percent REAL NOT NULL,
    max_p99_us        INTEGER,
    started_at_us     INTEGER NOT NULL,
    seen              TEXT NOT NULL, -- a row's number by the ledger's chain, as JSON
    calls             INTEGER NOT NULL,
    failed            INTEGER NOT NULL,
    slow              INTEGER NOT NULL,
    state             TEXT NOT NULL,
    ended_at_us       INTEGER,
    reason            TEXT NOT NULL
) STRICT;

-- name: put
INSERT OR REPLACE INTO canaries VALUES (
    :function, :revision, :baseline, :percent, :promote_after_s, :max_error_percent, :max_p99_us,
    :started_at_us, :seen, :calls, :failed, :slow, :state, :ended_at_us, :reason
);

-- name: get
SELECT * FROM canaries WHERE function = :function;

-- name: running
SELECT * FROM canaries WHERE state = 'running' ORDER BY function;
