-- Adds the transactions that are known as fraud, of those that the cells have.
insert into shop.flagged (topic, partition, generation, "offset", transaction_id, timestamp, amount, country, category,
    currency, device, merchant_id, score, is_alert, model_version)
select t.topic, t.partition, t.generation, t."offset", t.transaction_id, t.timestamp, t.amount,
       coalesce(nullif(btrim(regexp_replace(t.transaction_location, '^.*,', '')), ''), 'not given'),
       coalesce(nullif(t.merchant_category, ''), 'not given'), coalesce(t.currency, ''),
       coalesce(nullif(t.device, ''), 'not given'), coalesce(t.merchant_id, 'not given'),
       s.score, coalesce(s.is_alert, false), coalesce(s.model_version, 0)
from (select transaction_id, timestamp from monitoring.current_labels l
      where is_fraud and not exists (select from shop.flagged f
                                     where f.transaction_id = l.transaction_id and f.timestamp = l.timestamp)) l
join shop.transactions t using (transaction_id, timestamp)
join positions p on p.topic = t.topic and p.partition = t.partition
    and (t.generation, t."offset") < (p.generation, p.next_offset)
left join shop.fraud_scores s
    on s.transaction_id = t.transaction_id and s.timestamp = t.timestamp and s.topic = t.topic
    and s.partition = t.partition and s."offset" = t."offset" and s.generation = t.generation
