-- Per stream: its lease, and what its ledger has committed.
select l.stream, l.state, l.detail, l.epoch, l.model_version, l.stop_requested, l.held,
       extract(epoch from clock_timestamp() - l.heartbeat_at)::float8 as heartbeat_age,
       extract(epoch from clock_timestamp() - max(o.committed_at))::float8 as since_commit,
       coalesce(sum(o.stored) filter (where o.topic = %(topic)s), 0)::bigint as stored,
       coalesce(sum(o.dead_letters), 0)::bigint as dead_letters,
       coalesce(sum(o.duplicates), 0)::bigint as duplicates,
       coalesce(jsonb_agg(jsonb_build_object('topic', o.topic, 'partition', o.partition, 'next', o.next_offset,
                                             'first', o.first_offset))
                filter (where o.topic is not null), '[]') as positions
from shop.stream_leases l left join shop.stream_offsets o using (stream)
group by l.stream, l.state, l.detail, l.epoch, l.model_version, l.stop_requested, l.held, l.heartbeat_at
order by l.stream
