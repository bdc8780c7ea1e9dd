-- What a ledger keeps beside its rows, less what its rows come to: all of it must be 0.

-- name: schema
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;

CREATE TABLE rollups (
    kind, day, period, tenant, key_id, function, revision, workflow, device_class, status,
    rows INTEGER NOT NULL,
    busy_us INTEGER NOT NULL,
    held_us INTEGER NOT NULL,
    restore_us INTEGER NOT NULL,
    PRIMARY KEY (
        kind, day, period, tenant, key_id, function, revision, workflow, device_class, status)
) WITHOUT ROWID;

CREATE TABLE paddings (
    card, day, period, tenant, key_id, function, revision, workflow, device_class, status,
    padding_us INTEGER NOT NULL,
    PRIMARY KEY (
        card, day, period, tenant, key_id, function, revision, workflow, device_class, status)
) WITHOUT ROWID;

CREATE TABLE accounts (
    account TEXT NOT NULL,
    commodity TEXT NOT NULL,
    kept INTEGER NOT NULL,
    kept_closed INTEGER NOT NULL,
    counted INTEGER NOT NULL,
    counted_closed INTEGER NOT NULL,
    PRIMARY KEY (account, commodity)
) WITHOUT ROWID;

CREATE TABLE reservations (
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    kept INTEGER NOT NULL,
    counted INTEGER NOT NULL,
    PRIMARY KEY (tenant, id)
) WITHOUT ROWID;

-- `kept` is null where a document cannot be read.
CREATE TABLE documents (
    number TEXT NOT NULL,
    tenant TEXT NOT NULL,
    kind TEXT NOT NULL,
    reverses TEXT NOT NULL,
    is_kept INTEGER NOT NULL,
    kept INTEGER,
    is_counted INTEGER NOT NULL,
    counted INTEGER,
    PRIMARY KEY (number, tenant, kind, reverses)
) WITHOUT ROWID;

-- name: expect_rollup
INSERT INTO rollups VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET
    rows = rows + excluded.rows,
    busy_us = busy_us + excluded.busy_us,
    held_us = held_us + excluded.held_us,
    restore_us = restore_us + excluded.restore_us;

-- name: count_rollup
INSERT INTO rollups VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, -?, -?, -?, -?)
ON CONFLICT DO UPDATE SET
    rows = rows + excluded.rows,
    busy_us = busy_us + excluded.busy_us,
    held_us = held_us + excluded.held_us,
    restore_us = restore_us + excluded.restore_us;

-- name: expect_padding
INSERT INTO paddings VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET padding_us = padding_us + excluded.padding_us;

-- name: count_padding
INSERT INTO paddings VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, -?)
ON CONFLICT DO UPDATE SET padding_us = padding_us + excluded.padding_us;

-- name: expect_account
INSERT INTO accounts VALUES (?, ?, ?, ?, 0, 0)
ON CONFLICT DO UPDATE SET
    kept = kept + excluded.kept,
    kept_closed = max(kept_closed, excluded.kept_closed);

-- name: count_account
INSERT INTO accounts VALUES (?, ?, 0, 0, ?, ?)
ON CONFLICT DO UPDATE SET
    counted = counted + excluded.counted,
    counted_closed = max(counted_closed, excluded.counted_closed);

-- name: expect_reservation
INSERT INTO reservations VALUES (?, ?, 1, 0);

-- name: count_reservation
INSERT INTO reservations VALUES (?, ?, 0, ?)
ON CONFLICT DO UPDATE SET counted = counted + excluded.counted;

-- name: expect_document
INSERT INTO documents VALUES (?, ?, ?, ?, 1, ?, 0, NULL)
ON CONFLICT DO UPDATE SET is_kept = 1, kept = excluded.kept;

-- name: count_document
INSERT INTO documents VALUES (?, ?, ?, ?, 0, NULL, 1, ?)
ON CONFLICT DO UPDATE SET is_counted = 1, counted = excluded.counted;

-- name: differing_rollups
SELECT * FROM rollups
WHERE rows <> 0 OR busy_us <> 0 OR held_us <> 0 OR restore_us <> 0
LIMIT ?;

-- name: differing_paddings
SELECT * FROM paddings WHERE padding_us <> 0 LIMIT ?;

-- name: differing_accounts
SELECT account, commodity, kept, counted FROM accounts
WHERE kept <> counted OR kept_closed <> counted_closed
LIMIT ?;

-- name: broken_leases
SELECT account, commodity, counted FROM accounts
WHERE counted_closed = 1 AND counted <> 0
LIMIT ?;

-- name: unbalanced
SELECT commodity, sum(kept) FROM accounts
GROUP BY commodity HAVING sum(kept) <> 0
LIMIT ?;

-- name: differing_reservations
SELECT tenant, id FROM reservations
WHERE kept <> counted
LIMIT ?;

-- name: differing_documents
SELECT number, tenant, kind, is_kept, is_counted FROM documents
WHERE is_kept <> is_counted OR kept <> counted
ORDER BY number
LIMIT ?;
