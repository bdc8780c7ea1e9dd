-- name: schema
CREATE TABLE IF NOT EXISTS rows (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    document TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS reservations (
    call TEXT PRIMARY KEY,
    pod TEXT NOT NULL,
    document TEXT NOT NULL,
    left_at_us INTEGER
) STRICT, WITHOUT ROWID;

-- name: totals
SELECT count(*), coalesce(sum(bytes), 0) FROM (
    SELECT length(document) AS bytes FROM rows UNION ALL SELECT length(document) FROM reservations
);

-- name: reserve
INSERT INTO reservations (call, pod, document) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING;

-- name: release
DELETE FROM reservations WHERE call = ?1 RETURNING document;

-- name: is_reserved
SELECT 1 FROM reservations WHERE call = ?1;

-- name: reserved
SELECT document FROM reservations WHERE pod = ?1;

-- name: pods
SELECT pod, min(left_at_us) FROM reservations GROUP BY pod;

-- name: leave
UPDATE reservations SET left_at_us = ?2 WHERE pod = ?1;

-- name: append
INSERT INTO rows (key, document) VALUES (?1, ?2) ON CONFLICT DO NOTHING;

-- name: find
SELECT document FROM rows WHERE key = ?1;

-- name: first
SELECT number, document FROM rows ORDER BY number LIMIT ?1;

-- name: forget
DELETE FROM rows WHERE number = ?1 RETURNING document;
