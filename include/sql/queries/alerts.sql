-- The newest alerts with the last verdict on each. `inbox` is open (no verdict, and not held back),
-- held_back, decided or all; the customer's names are not among the columns.
select a.transaction_id, a.topic, a.partition, a."offset", a.user_id, a.timestamp,
       a.amount::double precision as amount, a.score, a.threshold, a.model_version, a.reasons, a.created_at,
       a.band, h.rank is not null as held_back, v.is_fraud as verdict, v.analyst, v.at as decided_at
from shop.fraud_alerts a
left join lateral (
    select is_fraud, analyst, at from shop.verdicts
    where transaction_id = a.transaction_id and topic = a.topic and partition = a.partition and "offset" = a."offset"
    order by id desc limit 1
) v on true
left join monitoring.held_back_alerts h using (transaction_id, topic, partition, "offset")
where case %(inbox)s when 'all' then true
                     when 'decided' then v.at is not null
                     when 'held_back' then h.rank is not null
                     else v.at is null and h.rank is null end
order by a.created_at desc, a.transaction_id, a.topic, a.partition, a."offset"
limit %(limit)s
