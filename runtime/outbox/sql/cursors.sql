-- How far each receiver of usage has come in the journal.

-- name: schema
CREATE TABLE IF NOT EXISTS outbox_cursors (
    sink  TEXT NOT NULL,
    chain INTEGER NOT NULL,
    seq   INTEGER NOT NULL, -- of the last row that the receiver has
    PRIMARY KEY (sink, chain)
) STRICT, WITHOUT ROWID;

-- name: select
SELECT seq FROM outbox_cursors WHERE sink = ? AND chain = ?;

-- name: advance
INSERT INTO outbox_cursors (sink, chain, seq) VALUES (?, ?, ?)
ON CONFLICT DO UPDATE SET seq = excluded.seq;
