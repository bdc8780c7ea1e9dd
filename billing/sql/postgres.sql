-- Queries of a ledger in PostgreSQL that ledger.sql has otherwise, because here there are chains.

-- name: select_head
SELECT seq, hash FROM entries WHERE chain = :chain ORDER BY seq DESC LIMIT 1;

-- name: select_heads
-- Grouping would read all of the journal; this looks twice into the index for each chain.
WITH RECURSIVE chains (chain) AS (
    SELECT min(chain) FROM entries
    UNION ALL
    SELECT (SELECT min(chain) FROM entries WHERE chain > chains.chain)
    FROM chains
    WHERE chain IS NOT NULL
)
SELECT chain, (SELECT max(seq) FROM entries WHERE chain = chains.chain)
FROM chains
WHERE chain IS NOT NULL;

-- name: select_balance
SELECT sum(balance) FROM accounts WHERE account = :account AND commodity = :commodity;

-- name: select_open_leases
-- With the balance, and the first row of each. A lease is closed in one chain, whichever others
-- have rows of it.
SELECT a.balance, e.*
FROM (
    SELECT account, sum(balance) AS balance, min(ARRAY[chain, first_seq]) AS first
    FROM accounts
    WHERE account >= 'lease/' AND account < 'lease0'
    GROUP BY account, commodity
    HAVING max(closed) = 0
) AS a JOIN LATERAL (
    SELECT * FROM entries
    WHERE chain = a.first[1] AND seq >= a.first[2] AND lease = substr(a.account, 7)
    ORDER BY seq
    LIMIT 1
) AS e ON true;
