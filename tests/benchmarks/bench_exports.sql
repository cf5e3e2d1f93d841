-- Exposures with their chain, for bench_exports.py (SQLite). Statements are told apart by empty lines; `n` counts 1, 2, 3, …

INSERT INTO audit_item (id, public_id, platform, external_id, author_key, url, created, imported, state, version,
  indexed_version, text_id)
SELECT 1000 + i, lower(hex(randomblob(16))), 'market', 'b' || i, 'a' || i % 5000, '',
  datetime('2026-01-01', i || ' seconds'), datetime('2026-01-01', i || ' seconds'), 'live', 1, 1, 1000 + i
FROM n LIMIT :items

INSERT INTO audit_itemtext (id, text, text_hash, norm_hash, analysis, language, at, item_id)
SELECT 1000 + i, 'x', printf('%064x', i), printf('%064x', i), 'qx-1', 'zh-Hans', datetime('2026-01-01', i || ' seconds'),
  1000 + i
FROM n LIMIT :items

INSERT INTO audit_query (id, text, key, mode, analysis)
SELECT 1000 + i, '加微信办证' || i, '加 微 信 办 证 ' || i, 'phrase', 'qx-1'
FROM n LIMIT :queries

INSERT INTO audit_exploration (id, public_id, at, state, job_id, pages_opened, created_by_id)
SELECT i, lower(hex(randomblob(16))), datetime('2026-01-01', i || ' seconds'), 'done', '', 2, :user
FROM n LIMIT :runs

INSERT INTO audit_explorationquery (id, position, state, error, exploration_id, query_id)
SELECT i, 1, 'done', '', i, 1001 + i % :queries
FROM n LIMIT :runs

INSERT INTO audit_decision (id, is_about, public_id, kind, source, text, arm, at, duration_ms, user_id, query_id, report_id)
SELECT i, 0, lower(hex(randomblob(16))), 'own', 'human', '加微信办证' || i % :queries, 'visible',
  datetime('2026-01-01', i || ' seconds'), 2400, :user, 1001 + i % :queries, :report
FROM n LIMIT 2 * :runs

INSERT INTO audit_explorationquery_decisions (explorationquery_id, decision_id)
SELECT (i + 1) / 2, i
FROM n LIMIT 2 * :runs

INSERT INTO audit_queryrun (id, engine, index_generation, analysis, risk_version, live, removed, is_about, ranking, took_ms,
  at, exploration_query_id, query_id)
SELECT i, 'fts5', 'items-1', 'qx-1', 1, :run, 0, 0, '[]', 3.5, datetime('2026-01-01', i || ' seconds'), i,
  1001 + i % :queries
FROM n LIMIT :runs

INSERT INTO audit_exposure (id, rank, page, position, at, user_id, item_id, item_text_id, run_id)
SELECT i, 1 + (i - 1) % :run, 1 + (i - 1) % :run / 50, 1 + (i - 1) % :run, datetime('2026-01-01', i || ' seconds'), :user,
  1001 + (i - 1) % :items, 1001 + (i - 1) % :items, 1 + (i - 1) / :run
FROM n LIMIT :rows

INSERT INTO audit_judgment (id, public_id, verdict, reason, at, duration_ms, exposure_id, item_text_id, user_id,
  policy_version_id)
SELECT 3 * i, lower(hex(randomblob(16))), CASE i % 2 WHEN 1 THEN 'toxic' ELSE 'normal' END, '',
  datetime('2026-01-01', i || ' seconds'), 4000, 3 * i, 1001 + (3 * i - 1) % :items, :user, :version
FROM n LIMIT :items / 3

INSERT INTO audit_standingverdict (item_text_id, policy_version_id, verdict, is_disputed, judgment_id)
SELECT item_text_id, policy_version_id, verdict, 0, id
FROM audit_judgment

INSERT INTO audit_removal (kind, reason, at, item_id, judgment_id, user_id)
SELECT 'removed', '', at, item_text_id, id, user_id
FROM audit_judgment WHERE verdict = 'toxic'
