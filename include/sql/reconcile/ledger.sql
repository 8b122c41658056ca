-- Each partition of the ledger, with what was found right before, and what its stream says.
select o.stream, o.topic, o.partition, o.topic_id, o.generation, o.first_offset, o.next_offset, o.stored, o.dead_letters,
       coalesce(r.next_offset, o.first_offset) as checked_offset,
       coalesce(r.stored, 0) as checked_stored,
       coalesce(r.dead_letters, 0) as checked_dead_letters,
       coalesce(r.checked_at, to_timestamp(0)) as checked_at,
       l.state, l.detail
from shop.stream_offsets o
join shop.stream_leases l using (stream)
left join shop.reconciled r using (stream, topic, partition, topic_id)
order by o.stream, o.topic, o.partition
