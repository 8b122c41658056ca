-- The labels of a time range's transactions as they were known at a time, and how long each took.
select hashtextextended(transaction_id, 0) as key, is_fraud, coalesce(scenario_id, '') as scenario,
       extract(epoch from known_at - timestamp)::float8 as delay
from shop.labels_known(%(as_of)s)
where timestamp >= %(start)s and timestamp < %(end)s
