-- name: schema
CREATE SCHEMA IF NOT EXISTS dsfn_control;
-- How many leaders there have been: the last one alone may write.
CREATE TABLE IF NOT EXISTS dsfn_control.epoch (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    epoch  bigint NOT NULL
);
INSERT INTO dsfn_control.epoch (epoch) VALUES (0) ON CONFLICT DO NOTHING;
-- One row for each transaction of the leader's database, without gaps.
CREATE TABLE IF NOT EXISTS dsfn_control.journal (
    seq       bigint PRIMARY KEY,
    epoch     bigint NOT NULL,
    changeset bytea NOT NULL -- https://sqlite.org/session/sqlite3changeset_apply.html
);
-- The database as it was after transaction `seq`, in parts.
CREATE TABLE IF NOT EXISTS dsfn_control.copies (
    seq     bigint NOT NULL,
    part    integer NOT NULL,
    content bytea NOT NULL,
    PRIMARY KEY (seq, part)
);

-- name: has_schema
SELECT to_regclass('dsfn_control.copies') IS NOT NULL;

-- name: is_here
-- By this the sessions of a leader are known.
SELECT pg_advisory_lock_shared(%(lock)s, 0);

-- name: end_leaders
-- Of all that a leader had open: its journal, and its chains of the ledger.
SELECT pg_terminate_backend(pid) FROM pg_locks
WHERE locktype = 'advisory' AND classid = ANY(%(locks)s) AND granted AND pid <> pg_backend_pid()
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database());

-- name: raise_epoch
UPDATE dsfn_control.epoch SET epoch = epoch + 1 RETURNING epoch;

-- name: raise_own_epoch
UPDATE dsfn_control.epoch SET epoch = epoch + 1 WHERE epoch = %(epoch)s RETURNING epoch;

-- name: hold_epoch
-- Until the end of the transaction nobody takes over.
SELECT epoch FROM dsfn_control.epoch WHERE epoch = %(epoch)s FOR SHARE;

-- name: append
INSERT INTO dsfn_control.journal (seq, epoch, changeset)
SELECT %(seq)s, epoch, %(changeset)b FROM dsfn_control.epoch WHERE epoch = %(epoch)s FOR SHARE;

-- name: take_back
DELETE FROM dsfn_control.journal WHERE seq > %(seq)s;

-- name: forget
DELETE FROM dsfn_control.journal WHERE seq <= %(seq)s;

-- name: changesets
SELECT seq, changeset FROM dsfn_control.journal WHERE seq > %(seq)s ORDER BY seq;

-- name: newest_copy
SELECT max(seq) FROM dsfn_control.copies;

-- name: parts
SELECT content FROM dsfn_control.copies WHERE seq = %(seq)s ORDER BY part;

-- name: drop_copies
DELETE FROM dsfn_control.copies;

-- name: put_part
INSERT INTO dsfn_control.copies (seq, part, content) VALUES (%(seq)s, %(part)s, %(content)b);
