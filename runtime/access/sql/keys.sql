-- API keys. The keys themselves are nowhere: what is kept is enough to know one when it comes.

-- name: schema
CREATE TABLE IF NOT EXISTS api_keys (
    id            TEXT PRIMARY KEY,
    digest        BLOB NOT NULL,      -- SHA-256 of the whole key
    tenant        TEXT NOT NULL,
    name          TEXT NOT NULL,
    scopes        TEXT NOT NULL,      -- words with a blank between them
    functions     TEXT NOT NULL,      -- names with a blank between them; '' for all
    created_at_us INTEGER NOT NULL,
    expires_at_us INTEGER,
    revoked_at_us INTEGER,
    last_used_day INTEGER             -- since 1970-01-01
) STRICT;

-- name: select
SELECT id, tenant, name, scopes, functions, created_at_us, expires_at_us, revoked_at_us,
    last_used_day, digest
FROM api_keys ORDER BY created_at_us, id;

-- name: insert
INSERT INTO api_keys (
    id, tenant, name, scopes, functions, created_at_us, expires_at_us, revoked_at_us,
    last_used_day, digest
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: revoke
UPDATE api_keys SET revoked_at_us = ?2 WHERE id = ?1 AND revoked_at_us IS NULL;

-- name: use
UPDATE api_keys SET last_used_day = ?2 WHERE id = ?1;

-- name: delete
DELETE FROM api_keys WHERE id = ?;
