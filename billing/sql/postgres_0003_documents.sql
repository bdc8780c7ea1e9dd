-- Closed months and the documents that were issued: each written once, never changed.

CREATE TABLE closed_months (
    month        text COLLATE "C" PRIMARY KEY,
    end_us       bigint NOT NULL UNIQUE,
    closed_at_us bigint NOT NULL,
    document     text NOT NULL, -- canonical JSON: the month's statement
    sha256       text NOT NULL  -- of the document
);

CREATE TABLE documents (
    number          text COLLATE "C" PRIMARY KEY,
    kind            text NOT NULL CHECK (kind IN ('invoice', 'credit')),
    month           text COLLATE "C" NOT NULL,
    tenant          text COLLATE "C" NOT NULL,
    total_minor     bigint NOT NULL,
    issued_at_us    bigint NOT NULL,
    reverses        text COLLATE "C" NOT NULL, -- of a credit note: the invoice
    idempotency_key text COLLATE "C" NOT NULL,
    document        text NOT NULL, -- canonical JSON
    sha256          text NOT NULL, -- of the document
    public_key      text NOT NULL,
    signature       text NOT NULL  -- of the document
);

CREATE INDEX documents_by_month ON documents (month, tenant);

CREATE INDEX documents_by_invoice ON documents (reverses) WHERE reverses <> '';

CREATE UNIQUE INDEX documents_by_key ON documents (idempotency_key) WHERE idempotency_key <> '';

-- What a document looked like when it was first printed in a format.
CREATE TABLE prints (
    number  text COLLATE "C" NOT NULL,
    format  text COLLATE "C" NOT NULL,
    content bytea NOT NULL,
    PRIMARY KEY (number, format)
);

CREATE TRIGGER closed_months_are_never_changed
    BEFORE UPDATE OR DELETE OR TRUNCATE ON closed_months
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change('a closed month');

CREATE TRIGGER documents_are_never_changed
    BEFORE UPDATE OR DELETE OR TRUNCATE ON documents
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change('a document');

CREATE TRIGGER prints_are_never_changed
    BEFORE UPDATE OR DELETE OR TRUNCATE ON prints
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change('a print');

CREATE FUNCTION require_later_month() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM dsfn.closed_months WHERE end_us >= NEW.end_us) THEN
        RAISE unique_violation
            USING MESSAGE = 'months are closed once and in order', TABLE = 'closed_months';
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER closed_months_are_in_order BEFORE INSERT ON closed_months
    FOR EACH ROW EXECUTE FUNCTION require_later_month();
