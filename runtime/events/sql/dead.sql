-- Deliveries that were given up: events that no function took and that started no run.

-- name: list
SELECT seq, id, tenant, function, revision, attempts, created_at_us, finished_at_us, error
FROM deliveries WHERE state = 'dead' AND seq < ?1 AND (?2 IS NULL OR tenant = ?2)
ORDER BY seq DESC LIMIT ?3;

-- name: get
SELECT seq, id, tenant, function, revision, attempts, created_at_us, finished_at_us, error, body,
    body_ref
FROM deliveries WHERE state = 'dead' AND id = ?;

-- name: remember
INSERT INTO delivery_replays (seq, attempts, at_us)
SELECT seq, attempts, ?2 FROM deliveries WHERE id = ?1
ON CONFLICT (seq) DO UPDATE SET attempts = excluded.attempts, at_us = excluded.at_us;

-- name: replay
UPDATE deliveries SET state = 'queued', not_before_us = ?2, finished_at_us = NULL, error = NULL
WHERE id = ?1 AND state = 'dead';
