-- name: schema
-- The functions that have objects in the cluster, or may have: what is there beside them is
-- nobody's to remove.
CREATE TABLE IF NOT EXISTS cluster_functions (
    name TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;

-- name: select
SELECT name FROM cluster_functions;

-- name: insert
INSERT INTO cluster_functions (name) VALUES (?) ON CONFLICT (name) DO NOTHING;

-- name: delete
DELETE FROM cluster_functions WHERE name = ?;
