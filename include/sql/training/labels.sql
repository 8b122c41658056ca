-- The labels of a time range's events as they were known at a time, and how long each took: NaN for an analyst's verdict,
-- which says nothing of how long the bank takes.
select shop.event_key(transaction_id, timestamp) as key, is_fraud, coalesce(scenario_id, '') as scenario,
       case when source = 'analyst' then 'NaN' else extract(epoch from known_at - timestamp)::float8 end as delay
from shop.labels_known(%(as_of)s)
where timestamp >= %(start)s and timestamp < %(end)s
