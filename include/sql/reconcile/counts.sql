-- Rows that streams wrote for ranges [first, end) of partitions. since: when the books before them were checked; a
-- row may be minutes older than its COMMIT.
with ranges as (
    select * from unnest(%(streams)s::text[], %(topics)s::text[], %(partitions)s::int[], %(topic_ids)s::text[],
                         %(generations)s::int[], %(firsts)s::bigint[], %(ends)s::bigint[])
    as range (stream, topic, partition, topic_id, generation, first, "end")
)
select r.stream, r.topic, r.partition, 'transactions' as kept_in, count(*)
from ranges r join shop.transactions t
    on t.topic = r.topic and t.partition = r.partition and t.generation = r.generation and t."offset" >= r.first and t."offset" < r."end"
where r.stream = 'transaction_stream' and t.stored_at >= %(since)s::timestamptz - interval '10 minutes'
group by r.stream, r.topic, r.partition
union all
select r.stream, r.topic, r.partition, 'fraud_scores', count(*)
from ranges r join shop.fraud_scores s
    on s.topic = r.topic and s.partition = r.partition and s.generation = r.generation and s."offset" >= r.first and s."offset" < r."end"
where r.stream = 'fraud_stream' and s.scored_at >= %(since)s::timestamptz - interval '10 minutes'
group by r.stream, r.topic, r.partition
union all
select r.stream, r.topic, r.partition, 'dead_letters', count(*)
from ranges r join shop.dead_letters d
    on d.topic = r.topic and d.partition = r.partition and d."offset" >= r.first and d."offset" < r."end"
    and d.topic_id = r.topic_id
where r.stream = 'transaction_stream'
group by r.stream, r.topic, r.partition
