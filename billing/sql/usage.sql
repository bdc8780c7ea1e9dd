-- What was used: sums for bills, from roll-ups where these can tell.

-- name: sum_days
-- Rows of calls in whole days, by roll-ups, less those that ran over a midnight. Columns are in
-- the order of the fields of `UsageSum`.
SELECT tenant, function, revision, device_class, status, day,
    sum(requests), sum(busy_us), sum(held_us), sum(restore_us), 0,
    workflow, '' AS run, '' AS step, key_id
FROM (
    SELECT tenant, function, device_class, status,
        CASE WHEN :by = 'revision' THEN revision ELSE '' END AS revision,
        CASE WHEN :by = 'day' THEN day ELSE 0 END AS day,
        CASE WHEN :by = 'workflow' THEN workflow ELSE '' END AS workflow,
        CASE WHEN :by = 'key' THEN key_id ELSE '' END AS key_id,
        rows AS requests, busy_us, held_us, restore_us
    FROM rollups
    WHERE kind = 'usage'
        AND day >= :start_us / 86400000000 AND day < :end_us / 86400000000
        AND period >= :first AND period <= :last
        AND (:tenant = '' OR tenant = :tenant)
    UNION ALL
    SELECT tenant, function, device_class, status,
        CASE WHEN :by = 'revision' THEN revision ELSE '' END,
        CASE WHEN :by = 'day' THEN started_at_us / 86400000000 ELSE 0 END,
        CASE WHEN :by = 'workflow' THEN workflow ELSE '' END,
        CASE WHEN :by = 'key' THEN key_id ELSE '' END,
        -count, -busy_us * devices * count, -held_us * devices * count,
        -restore_us * devices * count
    FROM (
        SELECT *, CASE WHEN kind = 'reversal' THEN -1 ELSE 1 END AS count
        FROM entries
        WHERE device_class <> ''
            AND (started_at_us + held_us - 1) / 86400000000 > started_at_us / 86400000000
            AND (kind = 'usage' OR kind = 'reversal')
            AND started_at_us >= :start_us AND started_at_us < :end_us
            AND period >= :first AND period <= :last
            AND (:tenant = '' OR tenant = :tenant)
    ) AS over_midnight
) AS found
GROUP BY tenant, function, device_class, status, revision, day, workflow, key_id
ORDER BY tenant, function, device_class, status, revision, day, workflow, key_id;

-- name: sum_rows
-- Rows of calls that lie within a stretch of time and within one day, UTC; `most` sums of them.
SELECT tenant, function, revision, device_class, status, day,
    sum(count), sum(busy_us * devices * count), sum(held_us * devices * count),
    sum(restore_us * devices * count), 0,
    workflow, run, step, key_id
FROM (
    SELECT tenant, function, device_class, status, busy_us, held_us, restore_us, devices,
        CASE WHEN :by = 'revision' THEN revision ELSE '' END AS revision,
        CASE WHEN :by = 'day' THEN started_at_us / 86400000000 ELSE 0 END AS day,
        CASE WHEN :by = 'workflow' OR :by = 'run' OR :by = 'step' THEN workflow ELSE '' END
            AS workflow,
        CASE WHEN :by = 'run' THEN run ELSE '' END AS run,
        CASE WHEN :by = 'step' THEN step ELSE '' END AS step,
        CASE WHEN :by = 'key' THEN key_id ELSE '' END AS key_id,
        CASE WHEN kind = 'reversal' THEN -1 ELSE 1 END AS count
    FROM entries
    WHERE device_class <> ''
        AND (kind = 'usage' OR kind = 'reversal')
        AND started_at_us >= :start_us AND started_at_us < :end_us
        AND started_at_us + held_us <= :end_us
        AND (started_at_us + held_us - 1) / 86400000000 <= started_at_us / 86400000000
        AND period >= :first AND period <= :last
        AND (:tenant = '' OR tenant = :tenant)
) AS found
GROUP BY tenant, function, device_class, status, revision, day, workflow, run, step, key_id
ORDER BY tenant, function, device_class, status, revision, day, workflow, run, step, key_id
LIMIT :most;

-- name: sum_padding
-- What is added to the time of each row of `sum_rows` when it is rounded up to increments.
SELECT tenant, function, revision, device_class, status, day, 0, 0, 0, 0,
    sum((:increment_us - time_us % :increment_us) % :increment_us * count),
    workflow, run, step, key_id
FROM (
    SELECT tenant, function, device_class, status,
        CASE WHEN :by = 'revision' THEN revision ELSE '' END AS revision,
        CASE WHEN :by = 'day' THEN started_at_us / 86400000000 ELSE 0 END AS day,
        CASE WHEN :by = 'workflow' OR :by = 'run' OR :by = 'step' THEN workflow ELSE '' END
            AS workflow,
        CASE WHEN :by = 'run' THEN run ELSE '' END AS run,
        CASE WHEN :by = 'step' THEN step ELSE '' END AS step,
        CASE WHEN :by = 'key' THEN key_id ELSE '' END AS key_id,
        CASE WHEN kind = 'reversal' THEN -1 ELSE 1 END AS count,
        devices * CASE
            WHEN :basis = 'busy' THEN busy_us
            WHEN :basis = 'held' THEN held_us
            ELSE held_us + restore_us
        END AS time_us
    FROM entries
    WHERE device_class = :device_class AND device_class <> ''
        AND (kind = 'usage' OR kind = 'reversal')
        AND started_at_us >= :start_us AND started_at_us < :end_us
        AND started_at_us + held_us <= :end_us
        AND (started_at_us + held_us - 1) / 86400000000 <= started_at_us / 86400000000
        AND period >= :first AND period <= :last
        AND (:tenant = '' OR tenant = :tenant)
) AS found
GROUP BY tenant, function, device_class, status, revision, day, workflow, run, step, key_id
ORDER BY tenant, function, device_class, status, revision, day, workflow, run, step, key_id;

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
