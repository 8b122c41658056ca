-- The newest alerts with the last verdict on each. `inbox` is open (no verdict), decided or all; the customer's
-- names are not among the columns.
select a.transaction_id, a.topic, a.partition, a."offset", a.user_id, a.timestamp,
       a.amount::double precision as amount, a.score, a.threshold, a.model_version, a.reasons, a.created_at,
       v.is_fraud as verdict, v.analyst, v.at as decided_at
from shop.fraud_alerts a
left join lateral (
    select is_fraud, analyst, at from shop.verdicts
    where transaction_id = a.transaction_id and topic = a.topic and partition = a.partition and "offset" = a."offset"
    order by id desc limit 1
) v on true
where (%(inbox)s = 'all' or (%(inbox)s = 'open') = (v.at is null))
order by a.created_at desc, a.transaction_id, a.topic, a.partition, a."offset"
limit %(limit)s
