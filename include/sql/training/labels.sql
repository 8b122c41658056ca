-- The labels of transactions from a time on, as they were known at another.
select hashtextextended(transaction_id, 0) as key, is_fraud, coalesce(scenario_id, '') as scenario
from shop.labels_known(%(as_of)s)
where timestamp >= %(start)s and timestamp < %(end)s
