-- Moves the position of the cells. The rows of a range are written within two minutes, one transaction takes less than
-- ten: what is not in the cells was stored after these times.
insert into shop.rolled_up as old (topic, partition, generation, next_offset, stored_since, scored_since)
select topic, partition, p.generation, p.next_offset,
       case when complete then greatest(stored - interval '2 minutes', now() - interval '10 minutes')
            else coalesce(stored - interval '2 minutes', r.stored_since, '-infinity') end,
       case when complete then greatest(scored - interval '2 minutes', now() - interval '10 minutes')
            else coalesce(scored - interval '2 minutes', r.scored_since, '-infinity') end
from positions p
left join (select topic, partition, max(stored_at) as stored, max(scored_at) as scored from fresh group by topic, partition) f
    using (topic, partition)
left join shop.rolled_up r using (topic, partition)
on conflict (topic, partition) do update
set generation = excluded.generation, next_offset = excluded.next_offset, stored_since = excluded.stored_since,
    scored_since = excluded.scored_since
