-- The ledger: one row for each invocation, written once, never changed.

-- name: schema
CREATE TABLE IF NOT EXISTS usage (
    seq             INTEGER PRIMARY KEY, -- the order of posting
    invocation_id   TEXT NOT NULL UNIQUE,
    tenant          TEXT NOT NULL,
    caller          TEXT NOT NULL,
    function        TEXT NOT NULL,
    revision        TEXT NOT NULL,
    device_class    TEXT NOT NULL,
    started_at_us   INTEGER NOT NULL CHECK (started_at_us >= 0),
    busy_us         INTEGER NOT NULL CHECK (busy_us >= 0),
    held_us         INTEGER NOT NULL CHECK (held_us >= 0),
    restore_us      INTEGER NOT NULL CHECK (restore_us >= 0),
    -- Written out: an IN list would be built anew for each row.
    status          TEXT NOT NULL CHECK (
        status = 'succeeded' OR status = 'failed' OR status = 'cancelled'
        OR status = 'rejected' OR status = 'platform'),
    error           TEXT NOT NULL,
    idempotency_key TEXT NOT NULL
) STRICT;

CREATE INDEX IF NOT EXISTS usage_by_start ON usage (started_at_us);

-- Calls that ran over a midnight are split there.
CREATE INDEX IF NOT EXISTS usage_over_midnight ON usage (started_at_us)
    WHERE (started_at_us + held_us - 1) / 86400000000 > started_at_us / 86400000000;

-- What each function took lately is asked for whenever workflows are planned.
CREATE INDEX IF NOT EXISTS usage_by_function ON usage (function, started_at_us);

-- One key is one success, whatever the callers do.
CREATE UNIQUE INDEX IF NOT EXISTS usage_one_success_per_key
    ON usage (tenant, function, idempotency_key)
    WHERE status = 'succeeded' AND idempotency_key <> '';

CREATE TRIGGER IF NOT EXISTS usage_is_never_updated BEFORE UPDATE ON usage
BEGIN
    SELECT RAISE(ABORT, 'the ledger is never updated');
END;

CREATE TRIGGER IF NOT EXISTS usage_is_never_deleted BEFORE DELETE ON usage
BEGIN
    SELECT RAISE(ABORT, 'the ledger is never deleted from');
END;

-- REPLACE deletes without firing the trigger above, so a repeat must never get that far:
-- the row is skipped here, and `post` sees that nothing was inserted.
CREATE TRIGGER IF NOT EXISTS usage_is_never_replaced BEFORE INSERT ON usage
WHEN EXISTS (SELECT 1 FROM usage WHERE invocation_id = NEW.invocation_id)
    OR EXISTS (SELECT 1 FROM usage WHERE seq = NEW.seq)
    OR (NEW.status = 'succeeded' AND NEW.idempotency_key <> '' AND EXISTS (
        SELECT 1 FROM usage
        WHERE tenant = NEW.tenant AND function = NEW.function
            AND idempotency_key = NEW.idempotency_key
            AND status = 'succeeded' AND idempotency_key <> ''))
BEGIN
    SELECT RAISE(IGNORE);
END;

-- name: insert_usage
-- The columns are in the order of the fields of `Usage`.
INSERT INTO usage (
    invocation_id, tenant, caller, function, revision, device_class, started_at_us,
    busy_us, held_us, restore_us, status, error, idempotency_key
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: select_usage
SELECT invocation_id, tenant, caller, function, revision, device_class, started_at_us,
    busy_us, held_us, restore_us, status, error, idempotency_key
FROM usage
WHERE invocation_id = ?;

-- name: select_between
-- Half open: the first bound belongs to it, the second does not.
SELECT invocation_id, tenant, caller, function, revision, device_class, started_at_us,
    busy_us, held_us, restore_us, status, error, idempotency_key
FROM usage
WHERE started_at_us >= ? AND started_at_us < ?
ORDER BY started_at_us, seq;

-- name: select_recent
-- Calls that ran and ended by themselves.
SELECT revision, device_class, busy_us, held_us, restore_us, status
FROM usage
WHERE function = ? AND (status = 'succeeded' OR status = 'failed')
ORDER BY started_at_us DESC, seq DESC
LIMIT ?;

-- name: sum_whole
-- Rows that lie within a stretch of time and within one day, UTC. Days are counted from
-- 1970-01-01.
SELECT tenant, function, revision, device_class, status,
    started_at_us / 86400000000 AS day,
    count(*), sum(busy_us), sum(held_us), sum(restore_us), 0
FROM usage
WHERE started_at_us >= :start_us AND started_at_us < :end_us
    AND started_at_us + held_us <= :end_us
    AND (started_at_us + held_us - 1) / 86400000000 <= started_at_us / 86400000000
GROUP BY tenant, function, revision, device_class, status, day
ORDER BY tenant, function, revision, device_class, status, day;

-- name: sum_padding
-- What is added to the time of each of those rows when it is rounded up to increments.
SELECT tenant, function, revision, device_class, status, day, 0, 0, 0, 0,
    sum((:increment_us - time_us % :increment_us) % :increment_us)
FROM (
    SELECT tenant, function, revision, device_class, status,
        started_at_us / 86400000000 AS day,
        CASE :basis
            WHEN 'busy' THEN busy_us
            WHEN 'held' THEN held_us
            ELSE held_us + restore_us
        END AS time_us
    FROM usage
    WHERE started_at_us >= :start_us AND started_at_us < :end_us
        AND started_at_us + held_us <= :end_us
        AND (started_at_us + held_us - 1) / 86400000000 <= started_at_us / 86400000000
        AND device_class = :device_class
)
GROUP BY tenant, function, revision, device_class, status, day
ORDER BY tenant, function, revision, device_class, status, day;

-- name: select_crossing
-- Rows that have a part in a stretch of time and are cut: at a midnight, where it begins, or,
-- for those that begin in it, where it ends. The first are few and have an index of their own.
SELECT invocation_id, tenant, caller, function, revision, device_class, started_at_us,
    busy_us, held_us, restore_us, status, error, idempotency_key
FROM usage
WHERE (started_at_us + held_us - 1) / 86400000000 > started_at_us / 86400000000
    AND started_at_us < :end_us AND started_at_us + held_us > :start_us
UNION ALL
SELECT invocation_id, tenant, caller, function, revision, device_class, started_at_us,
    busy_us, held_us, restore_us, status, error, idempotency_key
FROM usage
WHERE started_at_us >= :start_us - :start_us % 86400000000 AND started_at_us < :start_us
    AND started_at_us + held_us > :start_us
    AND (started_at_us + held_us - 1) / 86400000000 <= started_at_us / 86400000000
UNION ALL
SELECT invocation_id, tenant, caller, function, revision, device_class, started_at_us,
    busy_us, held_us, restore_us, status, error, idempotency_key
FROM usage
WHERE started_at_us >= max(:start_us, :end_us - :end_us % 86400000000) AND started_at_us < :end_us
    AND started_at_us + held_us > :end_us
    AND (started_at_us + held_us - 1) / 86400000000 <= started_at_us / 86400000000;
