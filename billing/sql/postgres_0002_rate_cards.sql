-- Rate cards: each written once, in force from its moment on, never changed.

CREATE TABLE rate_cards (
    number            integer PRIMARY KEY CHECK (number >= 1), -- the order of setting
    effective_from_us bigint NOT NULL UNIQUE CHECK (effective_from_us >= 0),
    set_at_us         bigint NOT NULL CHECK (set_at_us >= 0),
    source            text NOT NULL CHECK (source IN ('configuration', 'set')),
    document          text NOT NULL, -- canonical JSON
    sha256            text NOT NULL  -- of the document
);

CREATE TRIGGER rate_cards_are_never_changed
    BEFORE UPDATE OR DELETE OR TRUNCATE ON rate_cards
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change('a rate card');
