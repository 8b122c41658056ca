-- One id can be that of several events: the first one is stored, the others are refused as id_conflict, although the
-- other stream may have scored them. Labels, scores, alerts and verdicts belong to one event: a label to the event with
-- its id and its time, all others to the event at (topic, partition, offset).

alter table shop.fraud_transactions
    drop constraint fraud_transactions_pkey,
    add primary key (transaction_id, timestamp, known_at);

create or replace function shop.labels_known(as_of timestamptz)
returns table (transaction_id text, "timestamp" timestamptz, is_fraud boolean, known_at timestamptz, scenario_id text)
language sql stable parallel safe
as $$
    select distinct on (l.transaction_id, l.timestamp)
           l.transaction_id, l.timestamp, l.is_fraud, l.known_at, l.scenario_id
    from shop.fraud_transactions l
    where l.known_at <= as_of
    order by l.transaction_id, l.timestamp, l.known_at desc
$$;

-- An event as the labels know it: its id and its time, as one number.
create function shop.event_key(transaction_id text, "timestamp" timestamptz) returns bigint
language sql stable parallel safe
return hashtextextended(transaction_id, (extract(epoch from "timestamp") * 1000000)::bigint);
grant execute on function shop.event_key(text, timestamptz) to trainer;

-- Where the time of a label is not known any more, the time when it became known stands for it.
alter table shop.merchant_labels add column timestamp timestamptz;
update shop.merchant_labels m
set timestamp = coalesce(
    (select l.timestamp from shop.fraud_transactions l
     where l.transaction_id = m.transaction_id and l.known_at = m.known_at limit 1), m.known_at);
alter table shop.merchant_labels
    alter column timestamp set not null,
    drop constraint merchant_labels_pkey,
    add primary key (transaction_id, timestamp, known_at);

-- What a refused event said, where it could be read: the fields of include.events.transaction.Transaction without
-- names and e-mail. Only for id_conflict; the raw bytes are in value.
alter table shop.dead_letters add column event jsonb;
grant select (topic_id, event) on shop.dead_letters to app;

-- How many of the dead letters are id_conflict.
alter table shop.stream_offsets
    add column id_conflicts bigint not null default 0,
    add constraint conflicts_are_dead_letters check (id_conflicts between 0 and dead_letters);
update shop.stream_offsets o
set id_conflicts = least(o.dead_letters, (
    select count(*) from shop.dead_letters d
    where d.reason = 'id_conflict' and d.topic = o.topic and d.partition = o.partition and d.topic_id = o.topic_id))
where o.stream = 'transaction_stream';
update shop.stream_offsets f
set id_conflicts = greatest(0, f.dead_letters - t.dead_letters + t.id_conflicts)
from shop.stream_offsets t
where f.stream = 'fraud_stream' and t.stream = 'transaction_stream'
  and (t.topic, t.partition, t.topic_id) = (f.topic, f.partition, f.topic_id)
  and t.dead_letters >= f.dead_letters - t.id_conflicts;

-- The alert that was judged. Null where the alert was deleted before this column came.
alter table shop.verdicts add column topic text collate "C", add column partition integer, add column "offset" bigint;
update shop.verdicts v
set (topic, partition, "offset") = (
    select a.topic, a.partition, a."offset" from shop.fraud_alerts a
    where a.transaction_id = v.transaction_id order by a.created_at desc limit 1);
grant insert (topic, partition, "offset") on shop.verdicts to app;


-- The views ------------------------------------------------------------------------------------------------------

create or replace view monitoring.transactions as
    select transaction_id, timestamp, amount, currency, location, transaction_location, device,
           merchant_category, late, broker_time, stored_at, topic, partition, "offset"
    from shop.transactions;

create or replace view monitoring.scores as
    select transaction_id, timestamp, score, is_alert, model_version, broker_time, scored_at, topic, partition, "offset"
    from shop.fraud_scores;

create or replace view monitoring.alerts as
    select transaction_id, timestamp, amount, score, threshold, model_version, reasons, created_at,
           topic, partition, "offset"
    from shop.fraud_alerts;

-- An analyst's decision about an alert: the last one. Who decided stays out of Grafana's reach.
create or replace view monitoring.verdicts as
    select distinct on (transaction_id, topic, partition, "offset")
           transaction_id, is_fraud, at, topic, partition, "offset"
    from shop.verdicts
    order by transaction_id, topic, partition, "offset", id desc;

-- The label of each event as it is known now: its latest one.
create or replace view monitoring.current_labels as
    select l.transaction_id, l.timestamp, l.is_fraud, l.known_at, l.scenario_id
    from shop.fraud_transactions l
    where l.known_at <= now() and not exists (
        select from shop.fraud_transactions later
        where later.transaction_id = l.transaction_id and later.timestamp = l.timestamp
          and later.known_at > l.known_at and later.known_at <= now());

create or replace function monitoring.labels_settled_until() returns timestamptz
language sql stable parallel safe
as $$
    select case
        when (select avg((l.transaction_id is not null)::integer) >= 0.95
              from (select s.transaction_id, s.timestamp from monitoring.scores s
                    order by s.scored_at desc offset 1000 limit 1000) s
              left join monitoring.current_labels l using (transaction_id, timestamp)) then now()
        else now() - greatest(interval '3 days', (
            select make_interval(secs => percentile_cont(0.9) within group (
                order by extract(epoch from known_at - timestamp)::double precision))
            from monitoring.current_labels where is_fraud))
        end
$$;

-- Every score with what is known of its event now: known_fraud is its label, or null; is_fraud is the settled truth,
-- null while it is not settled. An event that was refused because another one owns its id does not count. (The
-- anti-join with those few takes a sixth of the time of a join with all transactions.)
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
        where d.reason = 'id_conflict'
          and d.topic = s.topic and d.partition = s.partition and d."offset" = s."offset");
