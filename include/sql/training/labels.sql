-- The labels of a time range's events as they were known at a time, and how long each took.
select shop.event_key(transaction_id, timestamp) as key, is_fraud, coalesce(scenario_id, '') as scenario,
       extract(epoch from known_at - timestamp)::float8 as delay
from shop.labels_known(%(as_of)s)
where timestamp >= %(start)s and timestamp < %(end)s
