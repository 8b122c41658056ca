-- How far the cells can go: in each partition up to where both streams have read.
create temporary table positions on commit drop as
select t.topic, t.partition,
       case when f.topic is null then 0 when t_first then t.generation else f.generation end as generation,
       case when f.topic is null then 0 when t_first then t.next_offset else f.next_offset end as next_offset,
       f.topic is not null and (t.generation, t.next_offset) = (f.generation, f.next_offset) as complete
from shop.stream_offsets t
left join shop.stream_offsets f on f.stream = 'fraud_stream' and f.topic = t.topic and f.partition = t.partition
cross join lateral (select (t.generation, t.next_offset) <= (f.generation, f.next_offset) as t_first) compared
where t.stream = 'transaction_stream'
  and t.topic in (select topic from shop.stream_offsets where stream = 'fraud_stream')
