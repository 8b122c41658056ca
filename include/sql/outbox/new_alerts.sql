-- Alerts of young payments between two offsets: those with the highest scores, and how many there are in all.
select count(*) over () as count,
       jsonb_build_object('transaction_id', transaction_id, 'timestamp', timestamp, 'amount', amount, 'score', score,
                          'reasons', reasons) as alert
from shop.fraud_alerts
where topic = %(topic)s and partition = %(partition)s and generation = %(generation)s
  and "offset" >= %(start)s and "offset" < %(end)s and timestamp > clock_timestamp() - %(young)s
order by score desc
limit %(listed)s
