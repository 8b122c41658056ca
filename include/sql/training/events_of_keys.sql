-- The events of some keys within a time range: what identifies them and their customers, and the country of each.
select shop.event_key(t.transaction_id, t.timestamp) as key, t.transaction_id, t.user_id, t.topic, t.partition, t."offset"
from shop.transactions t
where t.timestamp >= %(start)s and t.timestamp < %(end)s
  and shop.event_key(t.transaction_id, t.timestamp) = any(%(keys)s)
