-- Scored transactions and alerts per bucket of `seconds` of the time of scoring, since `since`; and the delay in
-- seconds from the broker to the score: median and 95th percentile.
select to_timestamp(floor(extract(epoch from scored_at) / %(seconds)s) * %(seconds)s) as at,
       count(*) as transactions,
       count(*) filter (where is_alert) as alerts,
       (percentile_cont(0.5) within group (order by extract(epoch from scored_at - broker_time)))::double precision
           as delay_p50,
       (percentile_cont(0.95) within group (order by extract(epoch from scored_at - broker_time)))::double precision
           as delay_p95
from shop.fraud_scores
where scored_at >= %(since)s
group by at
order by at
