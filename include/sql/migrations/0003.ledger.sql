-- depends: 0002.grants

-- watermark: the newest event time seen in the partition, against which an event is late.
-- lost: offsets that retention deleted before they were read, entered by hand once somebody has accepted the loss.
alter table shop.stream_offsets
    add column watermark timestamptz,
    add column lost bigint not null default 0 check (lost >= 0),
    drop constraint stream_offsets_check,
    add constraint books_close check (next_offset - first_offset = stored + dead_letters + duplicates + lost);

-- With this index a new epoch counts as a key update: it waits for writers that hold the lease's row FOR KEY SHARE
-- and makes later ones fail, while the heartbeat's updates and the writers never wait for one another.
create unique index on shop.stream_leases (stream, epoch);

-- A topic that was deleted and created again uses its offsets a second time.
alter table shop.dead_letters
    add column topic_id text not null default '',
    drop constraint dead_letters_pkey,
    add primary key (topic, partition, "offset", topic_id);
alter table shop.fraud_alerts
    drop constraint fraud_alerts_pkey,
    add primary key (topic, partition, "offset", transaction_id);

-- When partitions are added, a user's state goes on from the newest one.
alter table shop.user_state add column written_at timestamptz not null default clock_timestamp();
