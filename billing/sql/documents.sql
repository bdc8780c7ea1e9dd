-- Closed months and the documents that were issued: each written once, never changed.

-- name: schema
CREATE TABLE IF NOT EXISTS closed_months (
    month        TEXT PRIMARY KEY,
    end_us       INTEGER NOT NULL UNIQUE,
    closed_at_us INTEGER NOT NULL,
    document     TEXT NOT NULL, -- canonical JSON: the month's statement
    sha256       TEXT NOT NULL  -- of the document
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS documents (
    number          TEXT PRIMARY KEY,
    kind            TEXT NOT NULL CHECK (kind = 'invoice' OR kind = 'credit'),
    month           TEXT NOT NULL,
    tenant          TEXT NOT NULL,
    total_minor     INTEGER NOT NULL,
    issued_at_us    INTEGER NOT NULL,
    reverses        TEXT NOT NULL, -- of a credit note: the invoice
    idempotency_key TEXT NOT NULL,
    document        TEXT NOT NULL, -- canonical JSON
    sha256          TEXT NOT NULL, -- of the document
    public_key      TEXT NOT NULL,
    signature       TEXT NOT NULL  -- of the document
) STRICT, WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS documents_by_month ON documents (month, tenant);

CREATE INDEX IF NOT EXISTS documents_by_invoice ON documents (reverses) WHERE reverses <> '';

CREATE UNIQUE INDEX IF NOT EXISTS documents_by_key ON documents (idempotency_key)
    WHERE idempotency_key <> '';

-- What a document looked like when it was first printed in a format.
CREATE TABLE IF NOT EXISTS prints (
    number  TEXT NOT NULL,
    format  TEXT NOT NULL,
    content BLOB NOT NULL,
    PRIMARY KEY (number, format)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER IF NOT EXISTS closed_months_are_never_updated BEFORE UPDATE ON closed_months
BEGIN
    SELECT RAISE(ABORT, 'a closed month is never updated');
END;

CREATE TRIGGER IF NOT EXISTS closed_months_are_never_deleted BEFORE DELETE ON closed_months
BEGIN
    SELECT RAISE(ABORT, 'a closed month is never deleted');
END;

CREATE TRIGGER IF NOT EXISTS documents_are_never_updated BEFORE UPDATE ON documents
BEGIN
    SELECT RAISE(ABORT, 'a document is never updated');
END;

CREATE TRIGGER IF NOT EXISTS documents_are_never_deleted BEFORE DELETE ON documents
BEGIN
    SELECT RAISE(ABORT, 'a document is never deleted');
END;

CREATE TRIGGER IF NOT EXISTS prints_are_never_updated BEFORE UPDATE ON prints
BEGIN
    SELECT RAISE(ABORT, 'a print is never updated');
END;

CREATE TRIGGER IF NOT EXISTS prints_are_never_deleted BEFORE DELETE ON prints
BEGIN
    SELECT RAISE(ABORT, 'a print is never deleted');
END;

-- REPLACE deletes without firing the triggers above, so it must never get that far.
CREATE TRIGGER IF NOT EXISTS closed_months_are_never_replaced BEFORE INSERT ON closed_months
WHEN EXISTS (SELECT 1 FROM closed_months WHERE month = NEW.month OR end_us >= NEW.end_us)
BEGIN
    SELECT RAISE(ABORT, 'a closed month is never replaced, and months are closed in order');
END;

CREATE TRIGGER IF NOT EXISTS documents_are_never_replaced BEFORE INSERT ON documents
WHEN EXISTS (
    SELECT 1 FROM documents
    WHERE number = NEW.number
        OR (NEW.idempotency_key <> '' AND idempotency_key = NEW.idempotency_key))
BEGIN
    SELECT RAISE(ABORT, 'a document is never replaced');
END;

CREATE TRIGGER IF NOT EXISTS prints_are_never_replaced BEFORE INSERT ON prints
WHEN EXISTS (SELECT 1 FROM prints WHERE number = NEW.number AND format = NEW.format)
BEGIN
    SELECT RAISE(ABORT, 'a print is never replaced');
END;

-- name: insert_month
INSERT INTO closed_months (month, end_us, closed_at_us, document, sha256) VALUES (?, ?, ?, ?, ?);

-- name: select_closed_until
SELECT coalesce(max(end_us), 0) FROM closed_months;

-- name: select_month
SELECT month, end_us, closed_at_us, document, sha256 FROM closed_months WHERE month = ?;

-- name: select_all_months
SELECT month, end_us, closed_at_us, document, sha256 FROM closed_months ORDER BY end_us;

-- name: insert_document
INSERT INTO documents (
    number, kind, month, tenant, total_minor, issued_at_us, reverses, idempotency_key, document,
    sha256, public_key, signature
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: select_document
SELECT number, kind, month, tenant, total_minor, issued_at_us, reverses, idempotency_key, document,
    sha256, public_key, signature
FROM documents
WHERE number = ?;

-- name: select_document_of_key
SELECT number, kind, month, tenant, total_minor, issued_at_us, reverses, idempotency_key, document,
    sha256, public_key, signature
FROM documents
WHERE idempotency_key <> '' AND idempotency_key = ?;

-- name: select_credit_notes
SELECT number, kind, month, tenant, total_minor, issued_at_us, reverses, idempotency_key, document,
    sha256, public_key, signature
FROM documents
WHERE reverses <> '' AND reverses = ?
ORDER BY issued_at_us, number;

-- name: select_documents
SELECT number, kind, month, tenant, total_minor, issued_at_us, reverses, idempotency_key, document,
    sha256, public_key, signature
FROM documents
WHERE (:month = '' OR month = :month) AND (:tenant = '' OR tenant = :tenant)
ORDER BY month, number;

-- name: select_all_documents
SELECT number, kind, month, tenant, total_minor, issued_at_us, reverses, idempotency_key, document,
    sha256, public_key, signature
FROM documents
ORDER BY number;

-- name: count_numbered
SELECT count(*) FROM documents WHERE substr(number, 1, length(:prefix)) = :prefix;

-- name: select_charge
SELECT amount FROM entries WHERE id = ? AND source = 'document' AND tenant = ?;

-- name: insert_print
INSERT INTO prints (number, format, content) VALUES (?, ?, ?);

-- name: select_all_prints
SELECT number, format, content FROM prints ORDER BY number, format;

-- name: select_stray_prints
SELECT number, format FROM prints
WHERE NOT EXISTS (SELECT 1 FROM documents WHERE documents.number = prints.number)
ORDER BY number, format;

-- name: select_print
SELECT content FROM prints WHERE number = ? AND format = ?;
