-- The newest day of payments, when it has more alerts than the team can read, with its volume and that of the four weeks before.
with newest as (
    select day, alerts, capacity, held_back from monitoring.alert_days order by day desc limit 1
)
select n.day, n.alerts, n.capacity, n.held_back, today.payments, usual.payments / 28.0 as usual_payments,
       usual.alerts / greatest(usual.payments, 1)::float8 as usual_share
from newest n
cross join lateral (
    select count(*) as payments from shop.fraud_scores
    where timestamp >= n.day and timestamp < n.day + interval '24 hours') today
cross join lateral (
    select count(*) as payments, count(*) filter (where is_alert) as alerts from shop.fraud_scores
    where timestamp >= n.day - interval '28 days' and timestamp < n.day) usual
where n.held_back > 0
