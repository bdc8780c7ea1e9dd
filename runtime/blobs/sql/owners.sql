-- Which tenants may name a blob: those that put it, and those that got it as a result.

-- name: schema
CREATE TABLE IF NOT EXISTS blob_owners (
    tenant  TEXT NOT NULL,
    digest  TEXT NOT NULL,
    used_us INTEGER NOT NULL, -- when it was put, or named on a later day
    PRIMARY KEY (tenant, digest)
) STRICT, WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS blob_owners_by_use ON blob_owners (used_us);

-- name: put
INSERT INTO blob_owners (tenant, digest, used_us) VALUES (?, ?, ?)
ON CONFLICT (tenant, digest) DO UPDATE SET used_us = excluded.used_us;

-- name: get
SELECT used_us FROM blob_owners WHERE tenant = ? AND digest = ?;

-- name: got
-- Whether a tenant has a result that is this blob.
SELECT EXISTS (SELECT 1 FROM runs WHERE body_ref = ?2 AND tenant = ?1)
    OR EXISTS (SELECT 1 FROM steps JOIN runs ON runs.seq = steps.run
               WHERE steps.body_ref = ?2 AND runs.tenant = ?1)
    OR EXISTS (SELECT 1 FROM deliveries WHERE result_ref = ?2 AND tenant = ?1);

-- name: prune
DELETE FROM blob_owners WHERE (tenant, digest) IN (
    SELECT tenant, digest FROM blob_owners WHERE used_us < ? ORDER BY used_us LIMIT ?
);
