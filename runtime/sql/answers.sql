-- First answers: what a repeat of an idempotency key gets.

-- name: schema
CREATE TABLE IF NOT EXISTS answers (
    tenant         TEXT NOT NULL,
    function       TEXT NOT NULL,
    key            TEXT NOT NULL,
    digest         BLOB NOT NULL,              -- what a repeat must share with the request
    claimed_at_us  INTEGER NOT NULL,
    done           INTEGER NOT NULL DEFAULT 0, -- 0: runs, or ran when the node was killed
    answer         TEXT,                       -- the answer's document, without its body, or
    error          TEXT,                       -- the document of the function's own error
    body           BLOB,
    body_ref       TEXT,
    usage          TEXT,                       -- the answer's row for the ledger
    posted         INTEGER NOT NULL DEFAULT 1, -- 0: the ledger may not have that row yet
    PRIMARY KEY (tenant, function, key)
) STRICT;

CREATE INDEX IF NOT EXISTS answers_by_age ON answers (claimed_at_us);
CREATE INDEX IF NOT EXISTS answers_unposted ON answers (posted) WHERE posted = 0;
CREATE INDEX IF NOT EXISTS answers_blobs ON answers (body_ref) WHERE body_ref IS NOT NULL;

-- name: select
SELECT digest, done, answer, error, body, body_ref, usage, posted
FROM answers WHERE tenant = ? AND function = ? AND key = ?;

-- name: claim
INSERT INTO answers (tenant, function, key, digest, claimed_at_us) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (tenant, function, key) DO NOTHING;

-- name: complete
UPDATE answers SET done = 1, answer = ?4, body = ?5, body_ref = ?6, usage = ?7, posted = 0
WHERE tenant = ?1 AND function = ?2 AND key = ?3 AND done = 0;

-- name: refuse
UPDATE answers SET done = 1, error = ?4
WHERE tenant = ?1 AND function = ?2 AND key = ?3 AND done = 0;

-- name: release
DELETE FROM answers WHERE tenant = ? AND function = ? AND key = ? AND done = 0;

-- name: unposted
SELECT tenant, function, key, usage FROM answers WHERE posted = 0;

-- name: posted
UPDATE answers SET posted = 1 WHERE tenant = ? AND function = ? AND key = ?;

-- name: prune
-- What the ledger may not have yet stays, however old it is.
DELETE FROM answers WHERE rowid IN (
    SELECT rowid FROM answers
    WHERE claimed_at_us < ?1 AND posted = 1
    ORDER BY claimed_at_us LIMIT ?2
);

-- name: references
SELECT body_ref FROM answers WHERE body_ref IS NOT NULL;
