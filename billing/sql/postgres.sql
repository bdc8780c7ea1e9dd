-- Queries of a ledger in PostgreSQL that ledger.sql has otherwise, because here there are chains.

-- name: select_head
SELECT seq, hash FROM entries WHERE chain = :chain ORDER BY seq DESC LIMIT 1;

-- name: has_table
SELECT 1 WHERE to_regclass('dsfn.' || CAST(? AS text)) IS NOT NULL;

-- name: select_guards
-- What refuses changes: triggers as the migrations make them (58: before each statement that
-- updates, deletes or truncates), none of them disabled, and what they call as it was made, too.
SELECT CAST(c.relname AS text), CAST(t.tgname AS text)
FROM pg_trigger AS t
JOIN pg_class AS c ON c.oid = t.tgrelid
JOIN pg_proc AS p ON p.oid = t.tgfoid
WHERE c.relnamespace = CAST('dsfn' AS regnamespace)
    AND t.tgenabled IN ('O', 'A') AND t.tgtype = 58 AND t.tgqual IS NULL
    AND regexp_replace(p.prosrc, '\s+', ' ', 'g')
        = ' BEGIN RAISE EXCEPTION ''% is never changed'', TG_ARGV[0]; END ';

-- name: select_heads
-- The last row of each chain that has rows, found from one chain to the next.
WITH RECURSIVE chains (chain) AS (
    SELECT min(chain) FROM entries
    UNION ALL
    SELECT (SELECT min(e.chain) FROM entries AS e WHERE e.chain > chains.chain)
    FROM chains
    WHERE chains.chain IS NOT NULL
)
SELECT chains.chain, last.seq, last.hash
FROM chains
CROSS JOIN LATERAL (
    SELECT seq, hash FROM entries WHERE chain = chains.chain ORDER BY seq DESC LIMIT 1
) AS last
ORDER BY chains.chain;

-- name: select_rows
SELECT * FROM entries
WHERE chain = :chain AND seq >= :first AND seq <= :last
ORDER BY seq;

-- name: select_compact
{compact}
WHERE chain = :chain AND seq >= :first AND seq <= :last
ORDER BY seq;

-- name: select_balance
SELECT coalesce(sum(balance), 0) FROM accounts WHERE account = :account AND commodity = :commodity;

-- name: select_open_leases
-- With the balance, and the first row of each.
SELECT a.balance, e.*
FROM accounts AS a JOIN LATERAL (
    SELECT * FROM entries
    WHERE chain = a.first_chain AND seq >= a.first_seq AND lease = substr(a.account, 7)
    ORDER BY seq
    LIMIT 1
) AS e ON true
WHERE a.closed = 0 AND a.account >= 'lease/' AND a.account < 'lease0';

-- name: select_broken_leases
SELECT account, commodity, balance FROM accounts WHERE broken LIMIT :limit;

-- name: add_paddings
INSERT INTO paddings (
    card, chain, day, period, tenant, key_id, function, revision, workflow, device_class, status,
    padding_us
)
SELECT card, chain, day, period, tenant, key_id, function, revision, workflow, device_class, status,
    padding_us
FROM json_populate_recordset(NULL::paddings, :paddings)
ON CONFLICT (
    card, day, tenant, function, device_class, status, revision, key_id, workflow, period, chain)
DO UPDATE SET padding_us = paddings.padding_us + excluded.padding_us;
