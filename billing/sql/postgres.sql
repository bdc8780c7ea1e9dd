-- Queries of a ledger in PostgreSQL that ledger.sql has otherwise, because here there are chains.

-- name: select_head
SELECT seq, hash FROM entries WHERE chain = :chain ORDER BY seq DESC LIMIT 1;

-- name: select_balance
SELECT sum(balance) FROM accounts WHERE account = :account AND commodity = :commodity;

-- name: select_open_leases
-- With the balance, and the first row of each. A lease is closed in one chain, whichever others
-- have rows of it.
SELECT a.balance, e.*
FROM (
    SELECT sum(balance) AS balance, min(ARRAY[chain, first_seq]) AS first
    FROM accounts
    WHERE account >= 'lease/' AND account < 'lease0'
    GROUP BY account, commodity
    HAVING max(closed) = 0
) AS a JOIN entries AS e ON e.chain = a.first[1] AND e.seq = a.first[2];
