-- What rounding each call up to the increments of a rate card adds. The same as in SQLite
-- (paddings.sql).

-- Of the calls that lie in one day, of the days that a card which rounds is in force for whole.
-- Pages have room for the next version of a row, as rows are added to again and again.
CREATE TABLE paddings (
    card         integer NOT NULL,
    chain        integer NOT NULL,
    day          integer NOT NULL,
    period       text COLLATE "C" NOT NULL,
    tenant       text COLLATE "C" NOT NULL,
    key_id       text COLLATE "C" NOT NULL,
    function     text COLLATE "C" NOT NULL,
    revision     text COLLATE "C" NOT NULL,
    workflow     text COLLATE "C" NOT NULL,
    device_class text COLLATE "C" NOT NULL,
    status       text COLLATE "C" NOT NULL,
    padding_us   bigint NOT NULL,
    PRIMARY KEY (
        card, day, tenant, function, device_class, status, revision, key_id, workflow, period,
        chain)
) WITH (fillfactor = 50);

-- Which rows are in it: those of a chain whose numbers are at most `built_seq`.
CREATE TABLE roundings (
    card      integer NOT NULL,
    chain     integer NOT NULL,
    built_seq bigint NOT NULL,
    PRIMARY KEY (card, chain)
) WITH (fillfactor = 50);
