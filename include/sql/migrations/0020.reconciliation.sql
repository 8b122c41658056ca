-- depends: 0003.ledger

-- Up to which offset the rows of a stream's partition were counted and found to be what the ledger says, with the
-- ledger's sums at that offset.
create table shop.reconciled (
    stream       text not null,
    topic        text collate "C" not null,
    partition    integer not null,
    topic_id     text not null,
    next_offset  bigint not null,
    stored       bigint not null,
    dead_letters bigint not null,
    checked_at   timestamptz not null default now(),
    primary key (stream, topic, partition)
);
grant select on shop.reconciled to app;

-- Finds the newest rows without reading a whole month.
create index on shop.transactions using brin (stored_at);
