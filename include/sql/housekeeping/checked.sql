-- Rows that were stored before this moment are no longer counted by the reconciliation, which looks 10 minutes
-- further back than its last good run for a row of a slow COMMIT. While it has not run for every partition, none is.
select coalesce(min(coalesce(r.checked_at, '-infinity')) - interval '10 minutes', '-infinity')::text
from shop.stream_offsets o
left join shop.reconciled r using (stream, topic, partition, topic_id)
