-- Stored transactions in the order of their log, to recompute features: whether the customer is in the sample, hashes of the
-- event and of the customer, the log's place, and the fields without names and e-mail, which no feature uses.
select abs(mod(hashtextextended(t.user_id, 1), 1000000)) < %(share)s * 1000000 as sampled,
       shop.event_key(t.transaction_id, t.timestamp) as key, hashtextextended(t.user_id, 0) as "user", t.topic, t.partition,
       {columns}
from shop.transactions t
where t.timestamp >= %(start)s and t.timestamp < %(end)s
order by t.topic, t.partition, t.generation, t."offset"
