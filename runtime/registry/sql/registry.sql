-- What is deployed on one node. Revisions never change, but for a snapshot that was
-- lost or is no good; all else that changes is which of them serve (traffic, served) and what calls them (subscriptions).

-- name: schema
CREATE TABLE IF NOT EXISTS functions (
    name          TEXT PRIMARY KEY,
    created_at_us INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS revisions (
    number          INTEGER PRIMARY KEY AUTOINCREMENT,
    id              TEXT NOT NULL UNIQUE,
    function        TEXT NOT NULL REFERENCES functions (name) ON DELETE CASCADE,
    bundle_digest   TEXT NOT NULL,
    entry           TEXT NOT NULL,
    environment     TEXT NOT NULL,
    snapshot        TEXT,
    snapshot_reason TEXT,
    created_at_us   INTEGER NOT NULL,
    options         TEXT NOT NULL,
    interface       TEXT NOT NULL,
    modules         TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS revisions_by_function ON revisions (function);
-- Revisions of functions that were deleted while runs of workflows needed them.
CREATE TABLE IF NOT EXISTS retained_revisions (
    id              TEXT PRIMARY KEY,
    function        TEXT NOT NULL,
    bundle_digest   TEXT NOT NULL,
    entry           TEXT NOT NULL,
    environment     TEXT NOT NULL,
    snapshot        TEXT,
    snapshot_reason TEXT,
    created_at_us   INTEGER NOT NULL,
    options         TEXT NOT NULL,
    interface       TEXT NOT NULL,
    modules         TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS traffic (
    function TEXT NOT NULL REFERENCES functions (name) ON DELETE CASCADE,
    revision TEXT NOT NULL REFERENCES revisions (id) ON DELETE CASCADE,
    percent  INTEGER NOT NULL CHECK (percent BETWEEN 1 AND 100),
    PRIMARY KEY (function, revision)
) STRICT, WITHOUT ROWID;
-- The revisions that took all of the traffic, in order: what a rollback goes back along.
CREATE TABLE IF NOT EXISTS served (
    number   INTEGER PRIMARY KEY AUTOINCREMENT,
    function TEXT NOT NULL REFERENCES functions (name) ON DELETE CASCADE,
    revision TEXT NOT NULL REFERENCES revisions (id) ON DELETE CASCADE
) STRICT;
CREATE INDEX IF NOT EXISTS served_by_function ON served (function);
CREATE TABLE IF NOT EXISTS subscriptions (
    id       TEXT PRIMARY KEY,
    function TEXT NOT NULL REFERENCES functions (name) ON DELETE CASCADE,
    filter   TEXT NOT NULL,
    origin   TEXT NOT NULL CHECK (origin IN ('decorator', 'user'))
) STRICT;
CREATE INDEX IF NOT EXISTS subscriptions_by_function ON subscriptions (function);

-- name: insert_function
INSERT INTO functions (name, created_at_us) VALUES (:name, :created_at_us)
ON CONFLICT (name) DO NOTHING;

-- name: select_function_names
SELECT name FROM functions ORDER BY name;

-- name: select_function
SELECT created_at_us FROM functions WHERE name = :function;

-- name: delete_function
-- Revisions, traffic and subscriptions go with it.
DELETE FROM functions WHERE name = :function;

-- name: insert_revision
-- The same id is the same build: the first one stays. Only its snapshot, once lost, is
-- captured again, and setup() need not leave the same bytes each time.
INSERT INTO revisions (
    id, function, bundle_digest, entry, environment, snapshot, snapshot_reason,
    created_at_us, options, interface, modules
) VALUES (
    :id, :function, :bundle_digest, :entry, :environment, :snapshot, :snapshot_reason,
    :created_at_us, :options, :interface, :modules
)
ON CONFLICT (id) DO UPDATE SET
    snapshot        = excluded.snapshot,
    snapshot_reason = excluded.snapshot_reason,
    modules         = excluded.modules;

-- name: update_snapshot
UPDATE revisions SET snapshot = :snapshot, snapshot_reason = :reason WHERE id = :id;

-- name: retain
INSERT OR REPLACE INTO retained_revisions
SELECT id, function, bundle_digest, entry, environment, snapshot, snapshot_reason,
       created_at_us, options, interface, modules
FROM revisions WHERE id = :id;

-- name: select_retained
SELECT id, function, bundle_digest, entry, environment, snapshot, snapshot_reason,
       created_at_us, options, interface, modules
FROM retained_revisions;

-- name: update_retained_snapshot
UPDATE retained_revisions SET snapshot = :snapshot, snapshot_reason = :reason WHERE id = :id;

-- name: release
DELETE FROM retained_revisions WHERE id = :id;

-- name: select_revisions
SELECT id, function, bundle_digest, entry, environment, snapshot, snapshot_reason,
       created_at_us, options, interface, modules
FROM revisions WHERE function = :function ORDER BY number DESC;

-- name: delete_traffic
DELETE FROM traffic WHERE function = :function;

-- name: insert_traffic
INSERT INTO traffic (function, revision, percent) VALUES (:function, :revision, :percent);

-- name: select_traffic
SELECT revision, percent FROM traffic WHERE function = :function;

-- name: insert_served
INSERT INTO served (function, revision) VALUES (:function, :revision);

-- name: select_served
-- The newest two: the revision that a rollback leaves, and the one it goes to.
SELECT number, revision FROM served WHERE function = :function ORDER BY number DESC LIMIT 2;

-- name: delete_served
DELETE FROM served WHERE number = :number;

-- name: insert_subscription
INSERT INTO subscriptions (id, function, filter, origin)
VALUES (:id, :function, :filter, :origin)
ON CONFLICT (id) DO NOTHING;

-- name: select_subscriptions
SELECT id, function, filter, origin FROM subscriptions ORDER BY function, rowid;

-- name: delete_subscription
DELETE FROM subscriptions WHERE id = :id;

-- name: delete_decorator_subscriptions
DELETE FROM subscriptions WHERE function = :function AND origin = 'decorator';
