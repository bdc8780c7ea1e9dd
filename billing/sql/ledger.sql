-- The ledger: a journal that is only ever added to, and what it adds up to.

-- name: schema
CREATE TABLE IF NOT EXISTS entries (
    seq             INTEGER PRIMARY KEY CHECK (seq >= 1), -- from 1 on, without a gap
    chain           INTEGER NOT NULL CHECK (chain = 0),
    devices         INTEGER NOT NULL CHECK (devices >= 1),
    started_at_us   INTEGER NOT NULL CHECK (started_at_us >= 0),
    busy_us         INTEGER NOT NULL CHECK (busy_us >= 0),
    held_us         INTEGER NOT NULL CHECK (held_us >= 0),
    restore_us      INTEGER NOT NULL CHECK (restore_us >= 0),
    amount          INTEGER NOT NULL CHECK (amount >= 0),
    kind            TEXT NOT NULL,
    tenant          TEXT NOT NULL,
    source          TEXT NOT NULL,
    id              TEXT NOT NULL,
    key_id          TEXT NOT NULL,
    caller          TEXT NOT NULL,
    function        TEXT NOT NULL,
    revision        TEXT NOT NULL,
    workflow        TEXT NOT NULL,
    run             TEXT NOT NULL,
    step            TEXT NOT NULL,
    device          TEXT NOT NULL,
    device_class    TEXT NOT NULL,
    lease           TEXT NOT NULL,
    debit           TEXT NOT NULL,
    credit          TEXT NOT NULL,
    commodity       TEXT NOT NULL,
    status          TEXT NOT NULL,
    error           TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    reverses        TEXT NOT NULL,
    period          TEXT NOT NULL,
    hash            BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;

-- Whatever happens twice is there once.
CREATE UNIQUE INDEX IF NOT EXISTS entries_by_id ON entries (id, source, tenant);

-- One key is one success, whatever the callers do.
CREATE UNIQUE INDEX IF NOT EXISTS entries_one_success_per_key
    ON entries (tenant, function, idempotency_key)
    WHERE kind = 'usage' AND status = 'succeeded' AND idempotency_key <> '';

CREATE INDEX IF NOT EXISTS entries_by_start ON entries (started_at_us)
    WHERE device_class <> '';

-- Calls that ran over a midnight are split there.
CREATE INDEX IF NOT EXISTS entries_over_midnight ON entries (started_at_us)
    WHERE device_class <> ''
        AND (started_at_us + held_us - 1) / 86400000000 > started_at_us / 86400000000;

-- What each function took lately is asked for whenever workflows are planned.
CREATE INDEX IF NOT EXISTS entries_by_function ON entries (function, started_at_us)
    WHERE kind = 'usage';

CREATE INDEX IF NOT EXISTS entries_by_run ON entries (run, started_at_us) WHERE run <> '';

CREATE TRIGGER IF NOT EXISTS entries_are_never_updated BEFORE UPDATE ON entries
BEGIN
    SELECT RAISE(ABORT, 'the ledger is never updated');
END;

CREATE TRIGGER IF NOT EXISTS entries_are_never_deleted BEFORE DELETE ON entries
BEGIN
    SELECT RAISE(ABORT, 'the ledger is never deleted from');
END;

-- REPLACE deletes without firing the trigger above, so it must never get that far.
CREATE TRIGGER IF NOT EXISTS entries_are_never_replaced BEFORE INSERT ON entries
WHEN EXISTS (SELECT 1 FROM entries WHERE seq = NEW.seq)
    OR EXISTS (
        SELECT 1 FROM entries
        WHERE id = NEW.id AND source = NEW.source AND tenant = NEW.tenant)
    OR (NEW.idempotency_key <> '' AND EXISTS (
        SELECT 1 FROM entries
        WHERE tenant = NEW.tenant AND function = NEW.function
            AND idempotency_key = NEW.idempotency_key
            AND kind = 'usage' AND status = 'succeeded' AND idempotency_key <> ''
            AND NEW.kind = 'usage' AND NEW.status = 'succeeded'))
BEGIN
    SELECT RAISE(ABORT, 'the ledger is never replaced');
END;

-- Times are x devices. `day`: days since 1970-01-01.
CREATE TABLE IF NOT EXISTS rollups (
    period       TEXT NOT NULL,
    day          INTEGER NOT NULL,
    tenant       TEXT NOT NULL,
    key_id       TEXT NOT NULL,
    function     TEXT NOT NULL,
    revision     TEXT NOT NULL,
    workflow     TEXT NOT NULL,
    device_class TEXT NOT NULL,
    kind         TEXT NOT NULL,
    status       TEXT NOT NULL,
    rows         INTEGER NOT NULL,
    busy_us      INTEGER NOT NULL,
    held_us      INTEGER NOT NULL,
    restore_us   INTEGER NOT NULL,
    PRIMARY KEY (
        day, tenant, function, kind, device_class, status, revision, key_id, workflow, period)
) STRICT, WITHOUT ROWID;

-- `balance`: debits less credits. `closed`: 1 for the account of a lease that is over.
CREATE TABLE IF NOT EXISTS accounts (
    account   TEXT NOT NULL,
    commodity TEXT NOT NULL,
    balance   INTEGER NOT NULL,
    closed    INTEGER NOT NULL,
    first_seq INTEGER NOT NULL, -- the first row about it came with this one
    PRIMARY KEY (account, commodity)
) STRICT, WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS accounts_of_open_leases ON accounts (account)
    WHERE closed = 0 AND account >= 'lease/' AND account < 'lease0';

-- There are none, unless somebody measured wrong.
CREATE INDEX IF NOT EXISTS accounts_of_broken_leases ON accounts (account)
    WHERE closed = 1 AND balance <> 0;

-- Money that is set aside and not yet given back.
CREATE TABLE IF NOT EXISTS open_reservations (
    tenant TEXT NOT NULL,
    id     TEXT NOT NULL,
    PRIMARY KEY (tenant, id)
) STRICT, WITHOUT ROWID;

-- What the chain had come to, signed; `document` is what is kept elsewhere, too.
CREATE TABLE IF NOT EXISTS checkpoints (
    number   INTEGER PRIMARY KEY CHECK (number >= 1),
    document TEXT NOT NULL
) STRICT;

CREATE TRIGGER IF NOT EXISTS checkpoints_are_never_updated BEFORE UPDATE ON checkpoints
BEGIN
    SELECT RAISE(ABORT, 'a checkpoint is never updated');
END;

CREATE TRIGGER IF NOT EXISTS checkpoints_are_never_deleted BEFORE DELETE ON checkpoints
BEGIN
    SELECT RAISE(ABORT, 'a checkpoint is never deleted');
END;

CREATE TRIGGER IF NOT EXISTS checkpoints_are_never_replaced BEFORE INSERT ON checkpoints
WHEN EXISTS (SELECT 1 FROM checkpoints WHERE number = NEW.number)
BEGIN
    SELECT RAISE(ABORT, 'a checkpoint is never replaced');
END;

-- name: insert_checkpoint
INSERT INTO checkpoints (number, document) VALUES (?, ?);

-- name: select_last_checkpoint
SELECT document FROM checkpoints ORDER BY number DESC LIMIT 1;

-- name: select_last_number
SELECT coalesce(max(number), 0) FROM checkpoints;

-- name: select_all_checkpoints
SELECT number, document FROM checkpoints ORDER BY number;

-- name: select_checkpoints
SELECT number, document FROM checkpoints WHERE number > :after ORDER BY number LIMIT :limit;

-- name: insert_entry
-- After number and chain, the columns are in the order of the fields of `Entry`.
INSERT INTO entries (
    seq, chain, devices, started_at_us, busy_us, held_us, restore_us, amount, kind, tenant, source,
    id, key_id, caller, function, revision, workflow, run, step, device, device_class, lease,
    debit, credit, commodity, status, error, idempotency_key, reverses, period, hash
) VALUES (
    ?, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?
);

-- name: add_rollup
INSERT INTO rollups (
    kind, day, period, tenant, key_id, function, revision, workflow, device_class, status,
    rows, busy_us, held_us, restore_us
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET
    rows = rows + excluded.rows,
    busy_us = busy_us + excluded.busy_us,
    held_us = held_us + excluded.held_us,
    restore_us = restore_us + excluded.restore_us;

-- name: add_balance
INSERT INTO accounts (account, commodity, balance, closed, first_seq) VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET
    balance = balance + excluded.balance,
    closed = max(closed, excluded.closed);

-- name: open_reservation
INSERT INTO open_reservations (tenant, id) VALUES (?, ?);

-- name: settle_reservation
DELETE FROM open_reservations WHERE tenant = ? AND id = ?;

-- name: has_usage_table
SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'usage';

-- name: select_usage_table
-- What ledgers had before they had a journal.
SELECT seq, invocation_id, tenant, caller, function, revision, device_class, started_at_us,
    busy_us, held_us, restore_us, status, error, idempotency_key
FROM usage
WHERE seq > ?
ORDER BY seq
LIMIT ?;

-- name: drop_usage_table
DROP TABLE usage;

-- name: select_head
SELECT seq, hash FROM entries ORDER BY seq DESC LIMIT 1;

-- The queries below that give whole rows give all columns, in the order of the table.

-- name: select_entry
SELECT * FROM entries WHERE tenant = ? AND source = ? AND id = ?;

-- name: select_success
SELECT 1 FROM entries
WHERE tenant = ? AND function = ? AND idempotency_key = ?
    AND kind = 'usage' AND status = 'succeeded' AND idempotency_key <> '';

-- name: select_open_leases
-- With the balance, and the first row of each.
SELECT a.balance, e.*
FROM accounts AS a JOIN entries AS e ON e.seq = (
    SELECT seq FROM entries
    WHERE seq >= a.first_seq AND lease = substr(a.account, 7)
    ORDER BY seq
    LIMIT 1
)
WHERE a.closed = 0 AND a.account >= 'lease/' AND a.account < 'lease0';

-- name: select_call
SELECT * FROM entries WHERE id = :id AND source = 'usage';

-- name: select_between
-- Half open: the first bound belongs to it, the second does not.
SELECT * FROM entries AS e
WHERE kind = 'usage' AND device_class <> ''
    AND started_at_us >= :start_us AND started_at_us < :end_us
    AND NOT EXISTS (
        SELECT 1 FROM entries
        WHERE id = e.id AND source = 'reversal' AND tenant = e.tenant)
ORDER BY started_at_us, seq;

-- name: select_run
SELECT * FROM entries AS e
WHERE run = :run AND run <> '' AND kind = 'usage'
    AND NOT EXISTS (
        SELECT 1 FROM entries
        WHERE id = e.id AND source = 'reversal' AND tenant = e.tenant)
ORDER BY started_at_us, seq;

-- name: select_heads
-- One chain, one row.
SELECT 0, seq, hash FROM entries ORDER BY seq DESC LIMIT 1;

-- name: select_calls_in
-- The number first, and then all columns.
SELECT seq, e.* FROM entries AS e
WHERE chain = :chain AND seq > :after AND seq <= :until
    AND (kind = 'usage' OR kind = 'reversal')
ORDER BY seq
LIMIT :limit;

-- name: select_intervals
SELECT * FROM entries
WHERE source = 'interval' AND device_class <> ''
    AND started_at_us >= :start_us AND started_at_us < :end_us
ORDER BY started_at_us, seq;

-- name: select_recent
-- Calls that ran and ended by themselves.
SELECT revision, device_class, busy_us, held_us, restore_us, status
FROM entries
WHERE function = :function AND kind = 'usage' AND (status = 'succeeded' OR status = 'failed')
ORDER BY started_at_us DESC, seq DESC
LIMIT :limit;

-- name: select_balance
SELECT balance FROM accounts WHERE account = :account AND commodity = :commodity;

-- name: select_open_reservations
SELECT e.*
FROM open_reservations AS o
JOIN entries AS e ON e.id = o.id AND e.source = 'reservation' AND e.tenant = o.tenant
WHERE o.tenant = :tenant
ORDER BY e.started_at_us, e.seq;

-- name: sum_devices
-- The time of calls, restores and what was idle, x devices, that lies in a stretch of time
-- and is billed in some months.
SELECT device_class, kind, sum(time_us)
FROM (
    SELECT device_class, kind, held_us AS time_us
    FROM rollups
    WHERE day >= :first_day AND day < :last_day
        AND kind IN ('usage', 'restore', 'idle') AND status <> 'rejected'
        AND period >= :first AND period <= :last
    UNION ALL
    -- Rows over a midnight: those of whole days are in the sum above, all have a part here.
    SELECT device_class, CASE kind WHEN 'reversal' THEN 'usage' ELSE kind END,
        CASE kind WHEN 'reversal' THEN -1 ELSE 1 END * devices * (
            max(0, min(:end_us, started_at_us + held_us) - max(:start_us, started_at_us))
            - CASE WHEN started_at_us >= :first_day * 86400000000
                AND started_at_us < :last_day * 86400000000 THEN held_us ELSE 0 END)
    FROM entries
    WHERE device_class <> ''
        AND (started_at_us + held_us - 1) / 86400000000 > started_at_us / 86400000000
        AND started_at_us < :end_us AND started_at_us + held_us > :start_us
        AND kind IN ('usage', 'reversal', 'restore', 'idle') AND status <> 'rejected'
        AND period >= :first AND period <= :last
    UNION ALL
    SELECT device_class, CASE kind WHEN 'reversal' THEN 'usage' ELSE kind END,
        CASE kind WHEN 'reversal' THEN -1 ELSE 1 END * devices
            * max(0, min(:end_us, started_at_us + held_us) - max(:start_us, started_at_us))
    FROM (
        SELECT * FROM entries
        WHERE device_class <> ''
            AND started_at_us >= :start_us - :start_us % 86400000000
            AND started_at_us < min(:first_day * 86400000000, :end_us)
            AND (started_at_us + held_us - 1) / 86400000000 <= started_at_us / 86400000000
        UNION ALL
        SELECT * FROM entries
        WHERE device_class <> ''
            AND started_at_us >= max(:last_day * 86400000000, :start_us - :start_us % 86400000000)
            AND started_at_us < :end_us
            AND (started_at_us + held_us - 1) / 86400000000 <= started_at_us / 86400000000
    ) AS edges
    WHERE kind IN ('usage', 'reversal', 'restore', 'idle') AND status <> 'rejected'
        AND period >= :first AND period <= :last
) AS parts
GROUP BY device_class, kind;

-- What follows is for the check of a ledger.

-- name: has_table
SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?;

-- name: select_rows
SELECT * FROM entries WHERE seq >= :first AND seq <= :last ORDER BY seq;

-- name: compact
-- The beginning of `select_compact`, here and in PostgreSQL. In the order of canonical bytes, but
-- the texts that rows have in common with many others as one.
SELECT chain, seq, devices, started_at_us, busy_us, held_us, restore_us, amount, hash,
    id, run, step, idempotency_key,
    kind || :separator || tenant || :separator || source || :separator || key_id ||
        :separator || caller || :separator || function || :separator || revision ||
        :separator || workflow || :separator || device || :separator || device_class ||
        :separator || lease || :separator || debit || :separator || credit ||
        :separator || commodity || :separator || status || :separator || error ||
        :separator || reverses || :separator || period
FROM entries

-- name: select_compact
{compact}
WHERE seq >= :first AND seq <= :last
ORDER BY seq;

-- name: select_hash
SELECT hash FROM entries WHERE seq = ? AND chain = ?;

-- name: select_rollups
SELECT kind, day, period, tenant, key_id, function, revision, workflow, device_class, status,
    rows, busy_us, held_us, restore_us
FROM rollups;

-- name: select_accounts
SELECT account, commodity, balance, closed FROM accounts;

-- name: select_broken_leases
SELECT account, commodity, balance FROM accounts WHERE closed = 1 AND balance <> 0 LIMIT :limit;

-- name: select_guards
-- What refuses changes; with its text, for one of the same name may refuse nothing.
SELECT tbl_name, name, sql FROM sqlite_schema WHERE type = 'trigger';

-- name: select_reservations
SELECT tenant, id FROM open_reservations;
