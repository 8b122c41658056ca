-- The scored events of an offset range of a partition, as keys with their times.
select shop.event_key(transaction_id, timestamp) as key, extract(epoch from timestamp)::float8 as timestamp
from shop.fraud_scores
where topic = %(topic)s and partition = %(partition)s and "offset" >= %(first)s and "offset" < %(end)s
