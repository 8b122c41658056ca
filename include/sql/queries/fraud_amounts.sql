-- The money in settled frauds, by currency: in all and in those that raised an alert. `version` null means any model.
select coalesce(t.currency, '') as currency, sum(t.amount)::double precision as fraud_amount,
       coalesce(sum(t.amount) filter (where s.is_alert), 0)::double precision as caught_amount
from monitoring.labelled_scores s
join shop.transactions t using (transaction_id, timestamp, topic, partition, "offset")
where s.timestamp >= %(since)s and s.timestamp < %(until)s and s.is_fraud
  and (cast(%(version)s as integer) is null or s.model_version = %(version)s)
group by t.currency
order by fraud_amount desc
