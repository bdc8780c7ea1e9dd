-- Budgets and what was told of them. What is spent is not here: the ledger says it.

-- name: schema
CREATE TABLE IF NOT EXISTS budgets (
    id          TEXT PRIMARY KEY,
    tenant      TEXT NOT NULL,
    amount_nano INTEGER NOT NULL CHECK (amount_nano >= 0),
    key_id      TEXT NOT NULL, -- '' for all
    function    TEXT NOT NULL, -- '' for all
    period      TEXT NOT NULL CHECK (period IN ('month', 'total')),
    hard        INTEGER NOT NULL CHECK (hard IN (0, 1)),
    alerts      TEXT NOT NULL, -- percentages with a blank between them
    set_at_us   INTEGER NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS budget_alerts (
    budget  TEXT NOT NULL REFERENCES budgets (id) ON DELETE CASCADE,
    period  TEXT NOT NULL,    -- "2026-11", or "total"
    percent INTEGER NOT NULL,
    at_us   INTEGER NOT NULL,
    PRIMARY KEY (budget, period, percent)
) STRICT, WITHOUT ROWID;

-- Tenants that have, or had since the node's start, a budget: the ledger may have money set aside
-- for them.
CREATE TABLE IF NOT EXISTS budget_tenants (
    tenant TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;

-- name: select
SELECT tenant, amount_nano, key_id, function, period, hard, alerts, set_at_us
FROM budgets ORDER BY tenant, key_id, function, period;

-- name: put
INSERT INTO budgets (
    id, tenant, amount_nano, key_id, function, period, hard, alerts, set_at_us
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET amount_nano = excluded.amount_nano, hard = excluded.hard,
    alerts = excluded.alerts, set_at_us = excluded.set_at_us;

-- name: put_tenant
INSERT OR IGNORE INTO budget_tenants (tenant) VALUES (?);

-- name: delete
DELETE FROM budgets WHERE id = ?;

-- name: tenants
SELECT tenant FROM budget_tenants ORDER BY tenant;

-- name: drop_tenants
DELETE FROM budget_tenants WHERE tenant NOT IN (SELECT tenant FROM budgets);

-- name: alerted
SELECT percent FROM budget_alerts WHERE budget = ? AND period = ?;

-- name: alert
INSERT INTO budget_alerts (budget, period, percent, at_us) VALUES (?, ?, ?, ?);

-- name: take_back_alerts
-- Of a budget that was set anew: what is not reached any more may be reached again.
DELETE FROM budget_alerts WHERE budget = ?1 AND period = ?2 AND percent > ?3;
