-- A customer's newest stored transactions up to a time, with the score, the alert and the label known now.
select t.timestamp, t.transaction_id, t.amount::double precision as amount, t.currency, t.merchant_category,
       t.transaction_location, t.device, s.score, s.is_alert, l.is_fraud
from shop.transactions t
left join lateral (
    select score, is_alert from shop.fraud_scores
    where transaction_id = t.transaction_id and topic = t.topic and partition = t.partition
      and "offset" = t."offset" and timestamp = t.timestamp limit 1
) s on true
left join lateral (
    select is_fraud from shop.fraud_transactions
    where transaction_id = t.transaction_id and timestamp = t.timestamp and known_at <= now()
    order by (source is distinct from 'analyst') desc, known_at desc limit 1
) l on true
where t.user_id = %(user_id)s and t.timestamp <= %(until)s
order by t.timestamp desc, t.transaction_id
limit %(limit)s
