-- What rounding each call up to the increments of a rate card adds.

-- name: schema
-- Of the calls that lie in one day, of the days that a card which rounds is in force for whole.
CREATE TABLE IF NOT EXISTS paddings (
    card         INTEGER NOT NULL,
    chain        INTEGER NOT NULL,
    day          INTEGER NOT NULL,
    period       TEXT NOT NULL,
    tenant       TEXT NOT NULL,
    key_id       TEXT NOT NULL,
    function     TEXT NOT NULL,
    revision     TEXT NOT NULL,
    workflow     TEXT NOT NULL,
    device_class TEXT NOT NULL,
    status       TEXT NOT NULL,
    padding_us   INTEGER NOT NULL,
    PRIMARY KEY (
        card, day, tenant, function, device_class, status, revision, key_id, workflow, period,
        chain)
) STRICT, WITHOUT ROWID;

-- Which rows are in it: those of a chain whose numbers are at most `built_seq`.
CREATE TABLE IF NOT EXISTS roundings (
    card      INTEGER NOT NULL,
    chain     INTEGER NOT NULL,
    built_seq INTEGER NOT NULL,
    PRIMARY KEY (card, chain)
) STRICT, WITHOUT ROWID;

-- name: advance_roundings
-- The cards that have all rows before some new ones get these, too.
UPDATE roundings SET built_seq = :after
WHERE chain = :chain AND built_seq = :before AND card <= :last_card
RETURNING card;

-- name: set_built
INSERT INTO roundings (card, chain, built_seq) VALUES (:card, :chain, :built_seq)
ON CONFLICT (card, chain) DO UPDATE SET built_seq = excluded.built_seq;

-- name: add_paddings
-- All of them as one JSON array: a statement for each would take several times as long.
INSERT INTO paddings (
    card, chain, day, period, tenant, key_id, function, revision, workflow, device_class, status,
    padding_us
)
SELECT value ->> 'card', value ->> 'chain', value ->> 'day', value ->> 'period',
    value ->> 'tenant', value ->> 'key_id', value ->> 'function', value ->> 'revision',
    value ->> 'workflow', value ->> 'device_class', value ->> 'status', value ->> 'padding_us'
FROM json_each(:paddings)
WHERE true
ON CONFLICT (
    card, day, tenant, function, device_class, status, revision, key_id, workflow, period, chain)
DO UPDATE SET padding_us = paddings.padding_us + excluded.padding_us;

-- name: delete_paddings
DELETE FROM paddings WHERE card = :card AND chain = :chain;

-- name: count_cards
SELECT count(*) FROM rate_cards;

-- name: has_usage_in_days
SELECT 1 FROM rollups
WHERE kind = 'usage' AND day >= :first_day AND day < :last_day
LIMIT 1;

-- name: select_built_in
SELECT card, built_seq FROM roundings WHERE chain = :chain;

-- name: select_built_of
SELECT chain, built_seq FROM roundings WHERE card = :card;

-- name: select_card_span
-- The digest of a card, and when the next one takes over.
SELECT sha256, (
    SELECT min(later.effective_from_us) FROM rate_cards AS later
    WHERE later.effective_from_us > rate_cards.effective_from_us)
FROM rate_cards
WHERE number = :card;

-- name: sum_paddings
-- What is added to the rows of whole days; the same as `sum_padding` gives, of all device classes.
SELECT tenant, function, device_class, status, part, '' AS flow, 0, 0, 0, 0, sum(padding_us)
FROM (
    SELECT tenant, function, device_class, status, padding_us,
        CASE
            WHEN :by = 'revision' THEN revision
            WHEN :by = 'day' THEN CAST(day AS TEXT)
            WHEN :by = 'key' THEN key_id
            WHEN :by = 'workflow' THEN workflow
            ELSE ''
        END AS part
    FROM paddings
    WHERE card = :card
        AND day >= :start_us / 86400000000 AND day < :end_us / 86400000000
        AND period >= :first AND period <= :last
        AND (:tenant = '' OR tenant = :tenant)
) AS found
GROUP BY tenant, function, device_class, status, part
ORDER BY tenant, function, device_class, status, part;

-- What follows is for the check of a ledger.

-- name: select_paddings
SELECT card, day, period, tenant, key_id, function, revision, workflow, device_class, status,
    padding_us
FROM paddings;

-- name: select_roundings
SELECT card, chain, built_seq FROM roundings;
