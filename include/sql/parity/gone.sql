-- Partitions in which more was scored than is still there.
select s.partition
from (select topic, partition, count(*) as rows from shop.fraud_scores group by topic, partition) s
join shop.stream_offsets o on o.stream = 'fraud_stream' and o.topic = s.topic and o.partition = s.partition
where o.stored > s.rows
