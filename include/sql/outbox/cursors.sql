-- Partitions in which the scores have passed offsets that a reader of alerts has not: start to before end.
select o.topic, o.partition, o.generation, coalesce(c.next_offset, o.first_offset) as start, o.next_offset as "end"
from shop.stream_offsets o
left join shop.alert_cursor c
    on c.reader = %(reader)s and c.topic = o.topic and c.partition = o.partition and c.generation = o.generation
where o.stream = 'fraud_stream' and o.next_offset > coalesce(c.next_offset, o.first_offset)
order by o.topic, o.partition
