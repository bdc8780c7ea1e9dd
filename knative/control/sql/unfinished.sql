-- name: schema
-- How functions were in the cluster before a deployment that has not ended: what was brought, and
-- did not become live, is taken back.
CREATE TABLE IF NOT EXISTS cluster_unfinished (
    function TEXT PRIMARY KEY,
    former TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- name: select
SELECT former FROM cluster_unfinished;

-- name: insert
INSERT INTO cluster_unfinished (function, former) VALUES (?, ?)
ON CONFLICT (function) DO UPDATE SET former = excluded.former;

-- name: delete
DELETE FROM cluster_unfinished WHERE function = ?;
