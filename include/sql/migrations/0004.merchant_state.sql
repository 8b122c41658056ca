-- depends: 0003.ledger

-- Behaviour state of a merchant as one Kafka partition sees it (include.features.behaviour.MERCHANT_STATE).
create table shop.merchant_state (
    merchant_id text collate "C" not null,
    partition   integer not null,
    layout      smallint not null,
    state       bytea not null,
    written_at  timestamptz not null default clock_timestamp(),
    primary key (merchant_id, partition)
) with (fillfactor = 60);
alter table shop.merchant_state alter column state set storage plain;
grant select, insert, update on shop.merchant_state to stream_writer;
grant select on shop.merchant_state to app;
