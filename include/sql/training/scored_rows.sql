-- The stored scores of a time range that count (those of the event that shop.transactions holds), in any order.
-- Customers and transactions are hashed: nothing here needs their names.
select shop.event_key(t.transaction_id, t.timestamp) as key,
       hashtextextended(t.user_id, 0) as "user",
       extract(epoch from t.timestamp)::float8 as timestamp,
       t.amount::float8 as amount,
       s.score,
       s.is_alert::int4 as alert,
       s.model_version as version
from shop.transactions t
join shop.fraud_scores s using (transaction_id, timestamp, topic, partition, "offset")
where t.timestamp >= %(start)s and t.timestamp < %(end)s
  and s.timestamp >= %(start)s and s.timestamp < %(end)s
  and abs(mod(hashtextextended(t.user_id, 1), 1000000)) < %(share)s * 1000000
