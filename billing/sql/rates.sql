-- Rate cards: each written once, in force from its moment on, never changed.

-- name: schema
CREATE TABLE IF NOT EXISTS rate_cards (
    number            INTEGER PRIMARY KEY CHECK (number >= 1), -- the order of setting
    effective_from_us INTEGER NOT NULL UNIQUE CHECK (effective_from_us >= 0),
    set_at_us         INTEGER NOT NULL CHECK (set_at_us >= 0),
    source            TEXT NOT NULL CHECK (source = 'configuration' OR source = 'set'),
    document          TEXT NOT NULL, -- canonical JSON
    sha256            TEXT NOT NULL  -- of the document
) STRICT;

CREATE TRIGGER IF NOT EXISTS rate_cards_are_never_updated BEFORE UPDATE ON rate_cards
BEGIN
    SELECT RAISE(ABORT, 'a rate card is never updated');
END;

CREATE TRIGGER IF NOT EXISTS rate_cards_are_never_deleted BEFORE DELETE ON rate_cards
BEGIN
    SELECT RAISE(ABORT, 'a rate card is never deleted');
END;

-- REPLACE deletes without firing the trigger above, so it must never get that far.
CREATE TRIGGER IF NOT EXISTS rate_cards_are_never_replaced BEFORE INSERT ON rate_cards
WHEN EXISTS (SELECT 1 FROM rate_cards WHERE number = NEW.number)
    OR EXISTS (SELECT 1 FROM rate_cards WHERE effective_from_us = NEW.effective_from_us)
BEGIN
    SELECT RAISE(ABORT, 'a rate card is never replaced');
END;

-- name: insert_card
INSERT INTO rate_cards (number, effective_from_us, set_at_us, source, document, sha256)
VALUES (?, ?, ?, ?, ?, ?);

-- name: select_cards
SELECT number, effective_from_us, set_at_us, source, document, sha256
FROM rate_cards
ORDER BY number;
