-- What the fault campaign adds from outside: every change of the ledger, in the order in which it was made.
create schema campaign;
create table campaign.journal (
    id           bigint generated always as identity primary key,
    stream       text not null,
    topic        text not null,
    partition    integer not null,
    first_offset bigint not null,
    next_offset  bigint not null,
    epoch        bigint not null,
    at           timestamptz not null default clock_timestamp()
);
create function campaign.note() returns trigger language plpgsql security definer as $$
begin
    if tg_op = 'UPDATE' then
        insert into campaign.journal (stream, topic, partition, first_offset, next_offset, epoch)
        values (new.stream, new.topic, new.partition, old.next_offset, new.next_offset, new.epoch);
    end if;
    return null;
end
$$;
create trigger campaign_journal after update on shop.stream_offsets
    for each row execute function campaign.note();
