-- Frauds that became known in a time range: the days that each took, when it was, and whether it had raised an alert.
select extract(epoch from l.known_at - l.timestamp)::float8 / 86400, extract(epoch from l.known_at)::float8,
       coalesce((select bool_or(s.is_alert) from shop.fraud_scores s
                 where s.transaction_id = l.transaction_id and s.timestamp = l.timestamp), false)
from shop.fraud_transactions l
where l.is_fraud and l.known_at >= %(start)s and l.known_at < %(end)s
order by l.known_at
