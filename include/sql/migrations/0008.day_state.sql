-- How often values occur in a Kafka partition over its closed days (include.features.closed_days.DAY_STATE): `id` is the
-- kind of value, a colon, and the value. Written with the scores.
create table shop.day_state (
    id         text collate "C" not null,
    partition  integer not null,
    layout     smallint not null,
    state      bytea not null,
    written_at timestamptz not null default clock_timestamp(),
    primary key (id, partition)
) with (fillfactor = 60);
alter table shop.day_state alter column state set storage plain;
grant select, insert, update on shop.day_state to stream_writer;
grant select on shop.day_state to app;
