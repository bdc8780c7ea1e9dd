-- Which workflows are deployed on one node. Revisions never change; a run needs its own for as
-- long as it is kept, so those of a deleted workflow stay until no run has them.

-- name: schema
CREATE TABLE IF NOT EXISTS workflow_revisions (
    number        INTEGER PRIMARY KEY AUTOINCREMENT,
    id            TEXT NOT NULL UNIQUE,
    workflow      TEXT NOT NULL,
    document      TEXT NOT NULL,
    created_at_us INTEGER NOT NULL,
    deleted       INTEGER NOT NULL DEFAULT 0 CHECK (deleted IN (0, 1))
) STRICT;
CREATE INDEX IF NOT EXISTS workflow_revisions_by_workflow ON workflow_revisions (workflow);
CREATE INDEX IF NOT EXISTS workflow_revisions_deleted
    ON workflow_revisions (id) WHERE deleted = 1;
CREATE TABLE IF NOT EXISTS workflows (
    name          TEXT PRIMARY KEY,
    revision      TEXT NOT NULL REFERENCES workflow_revisions (id),
    created_at_us INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS workflow_subscriptions (
    id       TEXT PRIMARY KEY,
    workflow TEXT NOT NULL REFERENCES workflows (name) ON DELETE CASCADE,
    filter   TEXT NOT NULL,
    origin   TEXT NOT NULL CHECK (origin IN ('decorator', 'user'))
) STRICT;
CREATE INDEX IF NOT EXISTS workflow_subscriptions_by_workflow
    ON workflow_subscriptions (workflow);

-- name: insert_revision
INSERT INTO workflow_revisions (id, workflow, document, created_at_us)
VALUES (:id, :workflow, :document, :created_at_us)
ON CONFLICT (id) DO UPDATE SET deleted = 0;

-- name: serve
INSERT INTO workflows (name, revision, created_at_us) VALUES (:name, :revision, :now_us)
ON CONFLICT (name) DO UPDATE SET revision = excluded.revision;

-- name: select_names
SELECT name FROM workflows ORDER BY name;

-- name: select_workflow
SELECT revision, created_at_us FROM workflows WHERE name = :name;

-- name: select_revisions
SELECT id, workflow, document, created_at_us
FROM workflow_revisions WHERE workflow = :workflow AND deleted = 0 ORDER BY number DESC;

-- name: select_revision
SELECT id, workflow, document, created_at_us FROM workflow_revisions WHERE id = :id;

-- name: delete_workflow
-- Its subscriptions go with it.
DELETE FROM workflows WHERE name = :name;

-- name: mark_deleted
UPDATE workflow_revisions SET deleted = 1 WHERE workflow = :workflow;

-- name: select_deleted
SELECT id FROM workflow_revisions WHERE deleted = 1;

-- name: delete_revision
DELETE FROM workflow_revisions WHERE id = :id AND deleted = 1;

-- name: insert_subscription
INSERT INTO workflow_subscriptions (id, workflow, filter, origin)
VALUES (:id, :function, :filter, :origin)
ON CONFLICT (id) DO NOTHING;

-- name: select_subscriptions
SELECT id, workflow, filter, origin FROM workflow_subscriptions ORDER BY workflow, rowid;

-- name: delete_subscription
DELETE FROM workflow_subscriptions WHERE id = :id;

-- name: delete_decorator_subscriptions
DELETE FROM workflow_subscriptions WHERE workflow = :workflow AND origin = 'decorator';
