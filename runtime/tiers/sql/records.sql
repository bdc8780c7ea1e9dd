-- What a node remembers of snapshots beside their files: pins, use, and where else
-- they are. A row that is missing says the defaults.

-- name: schema
CREATE TABLE IF NOT EXISTS snapshots (
    digest       TEXT PRIMARY KEY,
    pinned       INTEGER NOT NULL,
    -- A count of uses that fades, as of the last use.
    heat         REAL NOT NULL,
    used_at_us   INTEGER,
    -- When it was last known to be in the store.
    stored_at_us INTEGER,
    -- How long it took to come back from there.
    reload_us    INTEGER
) STRICT, WITHOUT ROWID;

-- name: select_records
SELECT digest, pinned, heat, used_at_us, stored_at_us, reload_us FROM snapshots;

-- name: write_record
INSERT INTO snapshots (digest, pinned, heat, used_at_us, stored_at_us, reload_us)
VALUES (:digest, :pinned, :heat, :used_at_us, :stored_at_us, :reload_us)
ON CONFLICT (digest) DO UPDATE SET
    pinned       = excluded.pinned,
    heat         = excluded.heat,
    used_at_us   = excluded.used_at_us,
    stored_at_us = excluded.stored_at_us,
    reload_us    = excluded.reload_us;

-- name: delete_record
DELETE FROM snapshots WHERE digest = :digest;
