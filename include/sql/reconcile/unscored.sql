-- Stored transactions in ranges [first, end) of partitions that have no score of their own.
with ranges as (
    select * from unnest(%(topics)s::text[], %(partitions)s::int[], %(generations)s::int[],
                         %(firsts)s::bigint[], %(ends)s::bigint[])
    as range (topic, partition, generation, first, "end")
)
select t.topic, t.partition, min(t."offset"), max(t."offset"), count(*)
from ranges r join shop.transactions t
    on t.topic = r.topic and t.partition = r.partition and t.generation = r.generation and t."offset" >= r.first and t."offset" < r."end"
where t.stored_at >= %(since)s::timestamptz - interval '10 minutes' and not exists (
    select from shop.fraud_scores s
    where s.transaction_id = t.transaction_id
      and s.topic = t.topic and s.partition = t.partition and s."offset" = t."offset")
group by t.topic, t.partition
order by t.topic, t.partition
