-- How many alerts there are, how many wait for a verdict, how many more are held back, and what the verdicts say.
select count(*) as alerts,
       count(*) filter (where v.at is null and h.rank is null) as open,
       count(*) filter (where v.at is null and h.rank is not null) as held_back,
       count(*) filter (where v.is_fraud) as confirmed,
       count(*) filter (where not v.is_fraud) as dismissed,
       count(*) filter (where a.created_at > now() - interval '24 hours') as last_day
from shop.fraud_alerts a
left join monitoring.verdicts v using (transaction_id, topic, partition, "offset")
left join monitoring.held_back_alerts h using (transaction_id, topic, partition, "offset")
