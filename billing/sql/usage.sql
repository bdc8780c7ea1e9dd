-- What was used: sums for bills, from roll-ups where these can tell.
--
-- `part` is what the calls of a sum have in common beside tenant, function, device class and
-- status; of runs and steps the workflow is another part.

-- name: calls
-- Part of the statements below: the rows of calls that begin in a stretch of time.
SELECT tenant, function, device_class, status, started_at_us, busy_us, held_us, restore_us, devices,
    CASE
        WHEN :by = 'revision' THEN revision
        WHEN :by = 'day' THEN CAST(started_at_us / 86400000000 AS TEXT)
        WHEN :by = 'key' THEN key_id
        WHEN :by = 'workflow' THEN workflow
        WHEN :by = 'run' THEN run
        WHEN :by = 'step' THEN step
        ELSE ''
    END AS part,
    CASE WHEN :by = 'run' OR :by = 'step' THEN workflow ELSE '' END AS flow,
    CASE WHEN kind = 'reversal' THEN -1 ELSE 1 END AS sign
FROM entries
WHERE device_class <> ''
    AND (kind = 'usage' OR kind = 'reversal')
    AND started_at_us >= :start_us AND started_at_us < :end_us
    AND period >= :first AND period <= :last
    AND (:tenant = '' OR tenant = :tenant)

-- name: sum_days
-- Rows of calls in whole days, by roll-ups, less those that ran over a midnight.
SELECT tenant, function, device_class, status, part, '' AS flow,
    sum(requests), sum(busy_us), sum(held_us), sum(restore_us)
FROM (
    SELECT tenant, function, device_class, status,
        CASE
            WHEN :by = 'revision' THEN revision
            WHEN :by = 'day' THEN CAST(day AS TEXT)
            WHEN :by = 'key' THEN key_id
            WHEN :by = 'workflow' THEN workflow
            ELSE ''
        END AS part,
        rows AS requests, busy_us, held_us, restore_us
    FROM rollups
    WHERE kind = 'usage'
        AND day >= :start_us / 86400000000 AND day < :end_us / 86400000000
        AND period >= :first AND period <= :last
        AND (:tenant = '' OR tenant = :tenant)
    UNION ALL
    SELECT tenant, function, device_class, status, part,
        -sign, -busy_us * devices * sign, -held_us * devices * sign, -restore_us * devices * sign
    FROM ({calls}) AS calls
    WHERE (started_at_us + held_us - 1) / 86400000000 > started_at_us / 86400000000
) AS found
GROUP BY tenant, function, device_class, status, part
HAVING sum(requests) <> 0 OR sum(busy_us) <> 0 OR sum(held_us) <> 0 OR sum(restore_us) <> 0
ORDER BY tenant, function, device_class, status, part;

-- name: sum_rows
-- Rows of calls that lie within a stretch of time and within one day, UTC; `most` sums of them.
SELECT tenant, function, device_class, status, part, flow,
    sum(sign), sum(busy_us * devices * sign), sum(held_us * devices * sign),
    sum(restore_us * devices * sign)
FROM ({calls}) AS calls
WHERE started_at_us + held_us <= :end_us
    AND (started_at_us + held_us - 1) / 86400000000 <= started_at_us / 86400000000
GROUP BY tenant, function, device_class, status, part, flow
ORDER BY tenant, function, device_class, status, part, flow
LIMIT :most;

-- name: sum_padding
-- What is added to the time of each row of `sum_rows` when it is rounded up to increments.
SELECT tenant, function, device_class, status, part, flow, 0, 0, 0, 0,
    sum((:increment_us - time_us % :increment_us) % :increment_us * sign)
FROM (
    SELECT tenant, function, device_class, status, part, flow, sign,
        devices * CASE
            WHEN :basis = 'busy' THEN busy_us
            WHEN :basis = 'held' THEN held_us
            ELSE held_us + restore_us
        END AS time_us
    FROM ({calls}) AS calls
    WHERE device_class = :device_class
        AND started_at_us + held_us <= :end_us
        AND (started_at_us + held_us - 1) / 86400000000 <= started_at_us / 86400000000
) AS found
GROUP BY tenant, function, device_class, status, part, flow
ORDER BY tenant, function, device_class, status, part, flow;

-- name: select_crossing
-- Rows that have a part in a stretch of time and are cut: at a midnight, where it begins, or,
-- for those that begin in it, where it ends. The first are few and have an index of their own.
SELECT id, tenant, caller, function, revision, device_class, started_at_us, busy_us, held_us,
    restore_us, status, error, idempotency_key, device, lease, devices, key_id, workflow, run, step,
    CASE WHEN kind = 'reversal' THEN -1 ELSE 1 END
FROM (
    SELECT * FROM entries
    WHERE device_class <> ''
        AND (started_at_us + held_us - 1) / 86400000000 > started_at_us / 86400000000
        AND started_at_us < :end_us AND started_at_us + held_us > :start_us
    UNION ALL
    SELECT * FROM entries
    WHERE device_class <> ''
        AND started_at_us >= :start_us - :start_us % 86400000000 AND started_at_us < :start_us
        AND started_at_us + held_us > :start_us
        AND (started_at_us + held_us - 1) / 86400000000 <= started_at_us / 86400000000
    UNION ALL
    SELECT * FROM entries
    WHERE device_class <> ''
        AND started_at_us >= CASE
            WHEN :start_us > :end_us - :end_us % 86400000000 THEN :start_us
            ELSE :end_us - :end_us % 86400000000
        END
        AND started_at_us < :end_us
        AND started_at_us + held_us > :end_us
        AND (started_at_us + held_us - 1) / 86400000000 <= started_at_us / 86400000000
) AS found
WHERE (kind = 'usage' OR kind = 'reversal')
    AND period >= :first AND period <= :last
    AND (:tenant = '' OR tenant = :tenant);

-- name: select_months
SELECT DISTINCT period FROM rollups ORDER BY period;

-- name: select_first_day
SELECT min(day) FROM rollups WHERE kind = 'usage' AND period = :month;
