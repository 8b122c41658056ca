-- Transactions first..last of `rows` over the last `days`, with scores, alerts and labels, as two partitions hold them.
with event as materialized (
    select n, 'tx-' || lpad(n::text, 10, '0') as transaction_id, 'u' || lpad((hashint8(n) & 99999)::text, 6, '0') as user_id,
           now() - %(days)s * interval '1 day' * (1 - n::float8 / %(rows)s) as "timestamp",
           (array['Germany', 'France', 'Kenya', 'Japan', 'Brazil', 'Spain', 'Italy', 'Poland', 'India', 'Canada', 'Chile',
                  'Egypt', 'Greece', 'Norway', 'Peru', 'Turkey', 'Austria', 'Belgium', 'Denmark', 'Iceland']
           )[1 + (random() * random() * 20)::int %% 20] as country,
           random() as odd, random() < 0.01 as is_fraud, random() as luck, (n %% 2)::int as partition,
           (n - 1) / 2 as "offset"
    from generate_series(%(first)s::bigint, %(last)s::bigint) n
), stored as (
    insert into shop.transactions (transaction_id, user_id, timestamp, location, transaction_location, amount, device,
        merchant_id, merchant_category, currency, latitude, longitude, late, topic, partition, "offset", broker_time,
        stored_at)
    select transaction_id, user_id, timestamp, 'Berlin, Germany', 'City, ' || country, round((exp(2 + 3 * luck))::numeric, 2),
           'device ' || (luck * luck * 15)::int, 'm' || (odd * 5000)::int,
           (array['grocery', 'electronics', 'travel', 'restaurant', 'fuel', 'clothing', 'health', 'books', 'games', 'garden',
                  'toys', 'furniture'])[1 + (luck * odd * 12)::int %% 12],
           case country when 'Japan' then 'JPY' when 'Brazil' then 'BRL' else 'EUR' end, 52.5, 13.4, false,
           'transactions-data', partition, "offset", timestamp + interval '20 ms', timestamp + interval '300 ms'
    from event
), scored as (
    insert into shop.fraud_scores (transaction_id, user_id, timestamp, score, is_alert, model_version, feature_set, features,
        topic, partition, "offset", broker_time, scored_at)
    select transaction_id, user_id, timestamp, least(0.99, 0.35 + 0.2 * luck * odd + case when is_fraud then 0.2 else 0 end),
           odd > 0.993 or (is_fraud and odd > 0.4), 1 + (n > %(rows)s / 2)::int, 1, %(features)s::real[],
           'transactions-data', partition, "offset", timestamp + interval '20 ms', timestamp + interval '400 ms'
    from event
), alerted as (
    insert into shop.fraud_alerts (transaction_id, user_id, timestamp, amount, score, threshold, model_version, reasons, topic,
        partition, "offset", created_at)
    select transaction_id, user_id, timestamp, round((exp(2 + 3 * luck))::numeric, 2), 0.6, 0.55, 1 + (n > %(rows)s / 2)::int,
           '[{"feature": "amount_ratio", "value": 9, "text": "amount 9 times this customer''s usual"}]',
           'transactions-data', partition, "offset", timestamp + interval '400 ms'
    from event where odd > 0.993 or (is_fraud and odd > 0.4)
)
insert into shop.fraud_transactions (transaction_id, timestamp, is_fraud, known_at, scenario_id)
select transaction_id, timestamp, true, timestamp + -ln(greatest(luck, 1e-9)) * interval '20 hours',
       (array['account_takeover', 'card_testing', 'large_amount', 'low_and_slow'])[1 + n %% 4]
from event where is_fraud
