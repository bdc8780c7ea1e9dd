-- The journal, and what it adds up to. The same rows as in SQLite (ledger.sql), with the same
-- hashes; what is different: there are several chains, each with sums of its own, so that writers
-- do not wait for each other.

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is never changed', TG_ARGV[0];
END
$$;

-- What SQLite calls the larger and the smaller of two numbers: its queries are used here, too.
CREATE FUNCTION max(bigint, bigint) RETURNS bigint LANGUAGE sql IMMUTABLE
    RETURN greatest($1, $2);
CREATE FUNCTION min(bigint, bigint) RETURNS bigint LANGUAGE sql IMMUTABLE
    RETURN least($1, $2);

-- After seq and chain: the columns of `Entry`, in its order.
CREATE TABLE entries (
    seq             bigint NOT NULL CHECK (seq >= 1), -- in each chain from 1 on, without a gap
    chain           integer NOT NULL CHECK (chain >= 0),
    devices         integer NOT NULL CHECK (devices >= 1),
    started_at_us   bigint NOT NULL CHECK (started_at_us >= 0),
    busy_us         bigint NOT NULL CHECK (busy_us >= 0),
    held_us         bigint NOT NULL CHECK (held_us >= 0),
    restore_us      bigint NOT NULL CHECK (restore_us >= 0),
    amount          bigint NOT NULL CHECK (amount >= 0),
    kind            text COLLATE "C" NOT NULL,
    tenant          text COLLATE "C" NOT NULL,
    source          text COLLATE "C" NOT NULL,
    id              text COLLATE "C" NOT NULL,
    key_id          text COLLATE "C" NOT NULL,
    caller          text COLLATE "C" NOT NULL,
    function        text COLLATE "C" NOT NULL,
    revision        text COLLATE "C" NOT NULL,
    workflow        text COLLATE "C" NOT NULL,
    run             text COLLATE "C" NOT NULL,
    step            text COLLATE "C" NOT NULL,
    device          text COLLATE "C" NOT NULL,
    device_class    text COLLATE "C" NOT NULL,
    lease           text COLLATE "C" NOT NULL,
    debit           text COLLATE "C" NOT NULL,
    credit          text COLLATE "C" NOT NULL,
    commodity       text COLLATE "C" NOT NULL,
    status          text COLLATE "C" NOT NULL,
    error           text COLLATE "C" NOT NULL,
    idempotency_key text COLLATE "C" NOT NULL,
    reverses        text COLLATE "C" NOT NULL,
    period          text COLLATE "C" NOT NULL,
    hash            bytea NOT NULL CHECK (octet_length(hash) = 32),
    PRIMARY KEY (chain, seq)
);

-- Whatever happens twice is there once, in whichever chain.
CREATE UNIQUE INDEX entries_by_id ON entries (id, source, tenant);

-- One key is one success, whatever the callers do.
CREATE UNIQUE INDEX entries_one_success_per_key ON entries (tenant, function, idempotency_key)
    WHERE kind = 'usage' AND status = 'succeeded' AND idempotency_key <> '';

CREATE INDEX entries_by_start ON entries (started_at_us) WHERE device_class <> '';

-- Calls that ran over a midnight are split there.
CREATE INDEX entries_over_midnight ON entries (started_at_us)
    WHERE device_class <> ''
        AND (started_at_us + held_us - 1) / 86400000000 > started_at_us / 86400000000;

-- What each function took lately is asked for whenever workflows are planned.
CREATE INDEX entries_by_function ON entries (function, started_at_us) WHERE kind = 'usage';

CREATE INDEX entries_by_run ON entries (run, started_at_us) WHERE run <> '';

CREATE TRIGGER entries_are_never_changed
    BEFORE UPDATE OR DELETE OR TRUNCATE ON entries
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change('the ledger');

-- Times are x devices. `day`: days since 1970-01-01. Pages have room for the next version of a
-- row, as rows are added to again and again.
CREATE TABLE rollups (
    period       text COLLATE "C" NOT NULL,
    day          integer NOT NULL,
    tenant       text COLLATE "C" NOT NULL,
    key_id       text COLLATE "C" NOT NULL,
    function     text COLLATE "C" NOT NULL,
    revision     text COLLATE "C" NOT NULL,
    workflow     text COLLATE "C" NOT NULL,
    device_class text COLLATE "C" NOT NULL,
    kind         text COLLATE "C" NOT NULL,
    status       text COLLATE "C" NOT NULL,
    chain        integer NOT NULL,
    rows         bigint NOT NULL,
    busy_us      bigint NOT NULL,
    held_us      bigint NOT NULL,
    restore_us   bigint NOT NULL,
    PRIMARY KEY (
        day, tenant, function, kind, device_class, status, revision, key_id, workflow, period,
        chain)
) WITH (fillfactor = 50);

-- `balance`: debits less credits. Accounts to which all writers post have a part for each chain,
-- so that these do not wait for each other; that of a lease is one. `closed`: 1 for the account of
-- a lease that is over. `first_chain` and `first_seq`: the row that the first about it came with.
CREATE TABLE accounts (
    account     text COLLATE "C" NOT NULL,
    commodity   text COLLATE "C" NOT NULL,
    part        integer NOT NULL,
    balance     bigint NOT NULL,
    closed      integer NOT NULL,
    first_chain integer NOT NULL,
    first_seq   bigint NOT NULL,
    broken      boolean NOT NULL GENERATED ALWAYS AS (closed = 1 AND balance <> 0) STORED,
    PRIMARY KEY (account, commodity, part)
) WITH (fillfactor = 50);

CREATE INDEX accounts_of_open_leases ON accounts (account)
    WHERE closed = 0 AND account >= 'lease/' AND account < 'lease0';

-- There are none, unless somebody measured wrong. An index that looked at the balance itself would
-- have to be written with each change of it.
CREATE INDEX accounts_of_broken_leases ON accounts (account) WHERE broken;

-- Money that is set aside and not yet given back.
CREATE TABLE open_reservations (
    tenant text COLLATE "C" NOT NULL,
    id     text COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant, id)
);

-- What the chains had come to, signed; `document` is what is kept elsewhere, too.
CREATE TABLE checkpoints (
    number   bigint PRIMARY KEY CHECK (number >= 1),
    document text NOT NULL
);

CREATE TRIGGER checkpoints_are_never_changed
    BEFORE UPDATE OR DELETE OR TRUNCATE ON checkpoints
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change('a checkpoint');
