-- One row per stream: its state as its driver last said it, and its ledger summed over partitions. In
-- transaction_stream, transactions are the stored rows without labels; in fraud_stream, behind is how many events
-- transaction_stream has read from the same topic that it has not.
select l.stream, l.state, l.detail, l.model_version, l.heartbeat_at,
       extract(epoch from now() - l.heartbeat_at)::double precision as heartbeat_seconds,
       max(o.committed_at) as committed_at,
       extract(epoch from now() - max(o.committed_at))::double precision as commit_seconds,
       count(o.partition) as partitions,
       coalesce(sum(o.stored), 0)::bigint as stored,
       coalesce(sum(o.stored) filter (where o.topic <> %(labels_topic)s), 0)::bigint as transactions,
       coalesce(sum(o.dead_letters), 0)::bigint as dead_letters,
       coalesce(sum(o.duplicates), 0)::bigint as duplicates,
       coalesce(sum(o.late), 0)::bigint as late,
       case when l.stream = 'fraud_stream'
            then coalesce(sum(greatest(ahead.next_offset - o.next_offset, 0)), 0)::bigint end as behind
from shop.stream_leases l
left join shop.stream_offsets o using (stream)
left join shop.stream_offsets ahead
    on ahead.stream = 'transaction_stream' and ahead.topic = o.topic and ahead.partition = o.partition
group by l.stream, l.state, l.detail, l.model_version, l.heartbeat_at
order by l.stream
