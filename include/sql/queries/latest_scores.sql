-- The transactions scored last, with amount and place of payment.
select s.scored_at, s.transaction_id, t.amount::double precision as amount, t.currency, t.merchant_category,
       t.transaction_location, t.device, s.score, s.is_alert, s.model_version
from (select * from shop.fraud_scores order by scored_at desc limit %(limit)s) s
left join shop.transactions t using (transaction_id, timestamp, topic, partition, "offset")
order by s.scored_at desc, s.transaction_id
