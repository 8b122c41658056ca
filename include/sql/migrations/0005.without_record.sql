-- without_record: offsets that were read and hold no record: markers of transactions, aborted records, and what the
-- broker deleted from the middle of its log (compaction).
alter table shop.stream_offsets
    add column without_record bigint not null default 0 check (without_record >= 0),
    drop constraint books_close,
    add constraint books_close check (
        next_offset - first_offset = stored + dead_letters + duplicates + lost + without_record);

create or replace view monitoring.streams as
    select o.stream, o.topic, o.partition, o.topic_id, o.first_offset, o.next_offset, o.stored, o.dead_letters,
           o.duplicates, o.late, o.unknown_fields, o.epoch, o.committed_at,
           l.state, l.detail, l.model_version, l.heartbeat_at, o.without_record, o.lost
    from shop.stream_offsets o join shop.stream_leases l using (stream);
