-- Partitions in which more was scored than is still there.
with ledgers as (
    select topic, partition, generation, stored from shop.stream_offsets where stream = 'fraud_stream'
    union all
    select topic, partition, generation, stored from shop.closed_offsets where stream = 'fraud_stream'
), scores as (
    select topic, partition, generation, count(*) as rows from shop.fraud_scores group by topic, partition, generation
)
select o.partition
from (select topic, partition, generation, sum(stored) as stored from ledgers group by topic, partition, generation) o
left join scores s using (topic, partition, generation)
where o.stored > coalesce(s.rows, 0) and o.topic in (select topic from scores)  -- a topic of labels has none
