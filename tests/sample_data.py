"""Fills an empty shop with some plausible days of transactions and what became of them, in a second or two."""

from __future__ import annotations

import psycopg
from psycopg.rows import dict_row

from include.settings import Settings
from include.sql import one_row

# Everything is one draw per row from PostgreSQL's generator, seeded once: the same rows on every run, up to now().
SQL = """
select setseed(0.42);

create temporary table customer as
select i, format('u%%s', lpad(i::text, 5, '0')) as user_id,
       (array['Ava','Liam','Noor','Mateo','Yuki','Zoë'])[1 + i %% 6] as first_name,
       (array['Smith','Okafor','Müller','Tanaka','García'])[1 + i %% 5] as last_name,
       (array['Germany','France','Kenya','Japan','Brazil','Spain'])[1 + (random() * random() * 6)::int %% 6] as home,
       (array['iPhone','Android phone','Windows laptop','MacBook','iPad'])[1 + (random() * 5)::int %% 5] as device,
       10 + 60 * random() as mean
from generate_series(1, 400) i;

-- Event times get denser towards now; the last two minutes are always filled.
create temporary table event as
select n, format('tx-%%s', lpad(n::text, 7, '0')) as transaction_id, c.*,
       case when n > %(transactions)s - 240 then now() - (%(transactions)s - n) * interval '0.5 second'
            else now() - interval '2 minutes' - %(days)s * interval '1 day' * pow(random(), 1.3) end as "timestamp",
       random() < %(fraud_rate)s as is_fraud, random() as odd, (random() * 2)::int %% 2 as partition
from generate_series(1, %(transactions)s) n
join customer c on c.i = 1 + (n * 7919::bigint) %% 400;

insert into shop.transactions (transaction_id, user_id, timestamp, first_name, last_name, full_name, email, location,
    transaction_location, amount, device, merchant_id, merchant_category, currency, latitude, longitude, late,
    topic, partition, "offset", broker_time, stored_at)
select transaction_id, user_id, timestamp, first_name, last_name, first_name || ' ' || last_name,
       lower(last_name) || '.' || i || '@example.com', home,
       case when is_fraud and odd < 0.5 then 'Iceland' when odd > 0.985 then 'Norway' else home end,
       round((mean * exp(case when is_fraud then 1.2 else 0 end + (random() + random() + random() - 1.5)))::numeric, 2),
       case when is_fraud and odd > 0.3 then 'Unknown device' else device end,
       format('m%%s', 1 + n %% 90),
       (array['grocery','electronics','travel','restaurant','fuel','clothing'])[1 + n %% 6], 'USD',
       (random() * 100 - 50)::numeric(7, 4), (random() * 300 - 150)::numeric(7, 4), odd < 0.01,
       'transactions-data', partition, row_number() over (partition by partition order by timestamp) - 1,
       timestamp + interval '20 ms', timestamp + interval '0.3 s' + random() * interval '0.4 s'
from event;

insert into shop.models (version, run_id, sha256, family, threshold, feature_set, trained_from, trained_to, metrics,
    created_at)
select v, md5('run' || v), md5('a' || v) || md5('b' || v), 'isolation_forest', 0.57 + v * 0.01, 1,
       now() - (%(days)s + 30 - v) * interval '1 day', now() - (%(days)s * (3 - v) / 3.0) * interval '1 day',
       jsonb_build_object('auc', 0.91 + v * 0.01, 'average_precision', 0.40 + v * 0.05, 'precision_at_threshold', 0.5,
                          'recall_at_threshold', 0.55 + v * 0.02),
       now() - (%(days)s * (3 - v) / 3.0) * interval '1 day'
from generate_series(1, 2) v;

insert into shop.promotions (at, kind, version, from_version, actor, reason, mode, parity)
select created_at, 'promotion', version, nullif(version - 1, 0), 'sample', 'better', 'auto', 'clean' from shop.models;
insert into shop.promotion_outcomes (promotion_id, done) select id, true from shop.promotions;

insert into shop.fraud_scores (transaction_id, user_id, timestamp, score, is_alert, model_version, feature_set,
    features, topic, partition, "offset", broker_time, scored_at)
select transaction_id, user_id, timestamp, score, score >= m.threshold, m.version, 1,
       array[t.amount, score, 0, 0, 0, 0, 0, 0]::real[], topic, partition, "offset", broker_time,
       stored_at + interval '0.1 s' + random() * random() * interval '0.8 s'
from (select t.*, least(0.99, case when e.is_fraud then 0.47 + 0.13 * (random() + random()) else
             0.36 + 0.045 * (random() + random() + random() + random()) + case when e.odd > 0.996 then 0.1 else 0 end
             end) as score
      from shop.transactions t join event e using (transaction_id)) t
join shop.models m on m.version = case when t.timestamp < now() - %(days)s * interval '1 day' / 3 then 1 else 2 end;

insert into shop.fraud_alerts (transaction_id, user_id, timestamp, amount, score, threshold, model_version, reasons,
    topic, partition, "offset", created_at)
select s.transaction_id, s.user_id, s.timestamp, t.amount, s.score, m.threshold, s.model_version,
       jsonb_build_array(
           jsonb_build_object('feature', 'amount_ratio', 'value', round(t.amount / 20, 1),
                              'text', format('amount %%s times this customer''s usual', round(t.amount / 20, 1))),
           jsonb_build_object('feature', 'new_country', 'value', 1,
                              'text', 'first payment from ' || t.transaction_location),
           jsonb_build_object('feature', 'new_device', 'value', 1, 'text', 'device not seen before')),
       s.topic, s.partition, s."offset", s.scored_at
from shop.fraud_scores s
join shop.transactions t using (transaction_id, timestamp, topic, partition, "offset")
join shop.models m on m.version = s.model_version
where s.is_alert;

-- Mostly fraud is reported, 20 hours later on average; one in fifty never is, a few reports are corrected.
insert into shop.fraud_transactions (transaction_id, timestamp, is_fraud, known_at, scenario_id)
select transaction_id, timestamp, is_fraud, timestamp + -ln(1 - random()) * interval '20 hours',
       case when is_fraud then (array['account_takeover','card_testing','large_amount','low_and_slow'])[1 + n %% 4] end
from event where odd < 0.98 and (is_fraud or odd < 0.02);
insert into shop.fraud_transactions (transaction_id, timestamp, is_fraud, known_at, scenario_id)
select transaction_id, timestamp, not is_fraud, known_at + interval '1 hour', null
from shop.fraud_transactions where is_fraud order by transaction_id limit 5;

insert into shop.dead_letters (reason, detail, topic, partition, "offset", key, value, at)
select (array['invalid_json','out_of_range','missing_field'])[1 + d %% 3], 'sample', 'transactions-data', d %% 2,
       1000000 + d, 'u1', '{"amount":', now() - d * interval '17 minutes'
from generate_series(1, 60) d;

insert into shop.verdicts (transaction_id, topic, partition, "offset", is_fraud, analyst, note)
select transaction_id, topic, partition, "offset", n %% 4 <> 0, 'sample analyst', ''
from (select a.*, row_number() over (order by created_at) as n from shop.fraud_alerts a) a where n <= 10;

insert into shop.stream_offsets (stream, topic, partition, topic_id, first_offset, next_offset, stored, dead_letters,
    duplicates, epoch)
select stream, topic, partition, 'sample', 0, count(*) - behind, count(*) - behind, 0, 0, 1
from shop.transactions, (values ('transaction_stream', 0), ('fraud_stream', 3)) s (stream, behind)
group by stream, topic, partition, behind;
insert into shop.stream_offsets (stream, topic, partition, topic_id, first_offset, next_offset, stored, dead_letters,
    duplicates, epoch)
select 'transaction_stream', 'transaction-labels', 0, 'sample', 0, count(*), count(*), 0, 0, 1
from shop.fraud_transactions;
update shop.stream_leases set epoch = 1, state = 'running', heartbeat_at = now(),
    model_version = case when stream = 'fraud_stream' then 2 end;

insert into shop.extra_fields (field, name) values ('number_1', 'Balance before'), ('category_2', 'Channel');

insert into shop.parity_checks (feature_set, rows, merchants, left_out, share, seconds)
select max(feature_set), count(*), count(*), 0, 1, 2 from shop.fraud_scores;

analyze shop.transactions, shop.fraud_scores, shop.fraud_transactions, shop.fraud_alerts;
"""


CONFLICT = """
with owner as (
    select transaction_id, timestamp from shop.transactions where transaction_id = %(transaction_id)s
), event as (
    select transaction_id, timestamp + interval '1 minute' as timestamp, 'u00042' as user_id, 4999.00 as amount,
           jsonb_build_object('transaction_id', transaction_id, 'user_id', 'u00042',
                              'timestamp', timestamp + interval '1 minute', 'amount', 4999.00, 'currency', 'USD',
                              'device', 'Unknown device', 'transaction_location', 'Iceland', 'merchant_id', 'm7',
                              'merchant_category', 'electronics') as content
    from owner
), letter as (
    insert into shop.dead_letters (reason, detail, topic, partition, "offset", topic_id, key, value, event)
    select 'id_conflict', 'another event with this transaction_id was stored before', 'transactions-data', 1, 900000,
           'sample', 'u00042', convert_to(content::text, 'utf8'), content
    from event
), score as (
    insert into shop.fraud_scores (transaction_id, user_id, timestamp, score, is_alert, model_version, feature_set,
        features, topic, partition, "offset", broker_time)
    select transaction_id, user_id, timestamp, 0.93, true, 2, 1, array[4999.0, 0.93, 0, 0, 0, 0, 0, 0]::real[],
           'transactions-data', 1, 900000, timestamp
    from event
), label as (
    insert into shop.fraud_transactions (transaction_id, timestamp, is_fraud, known_at, scenario_id)
    select transaction_id, timestamp, true, timestamp + interval '1 minute', 'large_amount' from event
)
insert into shop.fraud_alerts (transaction_id, user_id, timestamp, amount, score, threshold, model_version, reasons,
    topic, partition, "offset")
select transaction_id, user_id, timestamp, amount, 0.93, 0.59, 2,
       '[{"feature": "amount_ratio", "value": 99, "text": "amount 99 times this customer''s usual"}]',
       'transactions-data', 1, 900000
from event
returning transaction_id, topic, partition, "offset"
"""


def add_conflict(connection: psycopg.Connection, transaction_id: str) -> dict[str, object]:
    """Another customer's event of 4,999.00 with the id of a stored transaction, a minute later, that was scored,
    raised an alert, was refused as id_conflict and is known as fraud; returns which event it is.
    """
    cursor = psycopg.ClientCursor(connection, row_factory=dict_row)
    return one_row(cursor.execute(CONFLICT, {"transaction_id": transaction_id}))


def fill(settings: Settings, *, transactions: int = 8000, days: int = 9, fraud_rate: float = 0.02) -> None:
    """Adds `transactions` over the last `days` with scores, alerts, labels, dead letters, models and ledgers.

    The tables must be empty. Every e-mail ends in @example.com and every name is in the text above.
    """
    with psycopg.connect(settings.conninfo("owner")) as connection:
        cursor = psycopg.ClientCursor(connection)
        cursor.execute(SQL, {"transactions": transactions, "days": days, "fraud_rate": fraud_rate})
