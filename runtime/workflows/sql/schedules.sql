-- name: schema
CREATE TABLE IF NOT EXISTS workflow_schedules (
    workflow   TEXT PRIMARY KEY REFERENCES workflows (name) ON DELETE CASCADE,
    expression TEXT NOT NULL,
    after_us   INTEGER NOT NULL -- the times after this one are still to come
) STRICT, WITHOUT ROWID;

-- name: select
SELECT workflow, expression, after_us FROM workflow_schedules;

-- name: put
INSERT INTO workflow_schedules (workflow, expression, after_us)
VALUES (:workflow, :expression, :after_us)
ON CONFLICT (workflow) DO UPDATE
SET expression = excluded.expression, after_us = excluded.after_us;

-- name: delete
DELETE FROM workflow_schedules WHERE workflow = :workflow;
