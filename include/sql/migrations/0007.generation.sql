-- A topic that is deleted and created again uses its offsets a second time. Its generation, a number that rises with each
-- creation, tells the rows of both apart, and their order is (topic, partition, generation, offset). What was stored before
-- this migration has generation 0.

create table shop.topics (
    topic      text collate "C" not null,
    topic_id   text not null,
    generation integer generated always as identity,
    primary key (topic, topic_id)
);
insert into shop.topics (topic, topic_id, generation) overriding system value
    select distinct topic, topic_id, 0 from shop.stream_offsets;
grant select, insert on shop.topics to stream_writer;

alter table shop.stream_offsets add column generation integer not null default 0;
alter table shop.transactions add column generation integer not null default 0;
alter table shop.dead_letters add column generation integer not null default 0;
alter table shop.fraud_scores add column generation integer not null default 0;
alter table shop.fraud_alerts add column generation integer not null default 0;
grant select (generation) on shop.stream_offsets, shop.transactions to trainer;
grant select (generation) on shop.transactions, shop.dead_letters to app;

-- A ledger that was deleted by hand, so that its stream reads a new topic: what it had counted stays known.
create table shop.closed_offsets (
    stream         text not null,
    topic          text collate "C" not null,
    partition      integer not null,
    topic_id       text not null,
    generation     integer not null,
    first_offset   bigint not null,
    next_offset    bigint not null,
    stored         bigint not null,
    dead_letters   bigint not null,
    duplicates     bigint not null,
    without_record bigint not null,
    lost           bigint not null,
    watermark      timestamptz,
    closed_at      timestamptz not null default clock_timestamp()
);
grant select on shop.closed_offsets to stream_writer;
grant select (stream, topic, partition, generation, stored) on shop.closed_offsets to trainer;

create function shop.close_offsets() returns trigger language plpgsql as $$
begin
    insert into shop.closed_offsets (stream, topic, partition, topic_id, generation, first_offset, next_offset, stored,
                                     dead_letters, duplicates, without_record, lost, watermark)
    values (old.stream, old.topic, old.partition, old.topic_id, old.generation, old.first_offset, old.next_offset, old.stored,
            old.dead_letters, old.duplicates, old.without_record, old.lost, old.watermark);
    return null;
end
$$;
create trigger close_offsets after delete on shop.stream_offsets for each row execute function shop.close_offsets();

create or replace view monitoring.labelled_scores as
    select s.transaction_id, s.timestamp, s.score, s.is_alert, s.model_version, s.scored_at,
           l.is_fraud as known_fraud, l.known_at, l.scenario_id,
           case when s.timestamp < (select monitoring.labels_settled_until()) then coalesce(l.is_fraud, false) end
               as is_fraud,
           s.topic, s.partition, s."offset"
    from shop.fraud_scores s
    left join monitoring.current_labels l using (transaction_id, timestamp)
    where not exists (
        select from shop.dead_letters d
        where d.reason = 'id_conflict' and d.topic = s.topic and d.partition = s.partition
          and d.generation = s.generation and d."offset" = s."offset");
