-- Thresholds from capacity and money (docs/decisions/0009-capacity-and-money.md).

-- block_threshold: scores at or above it are payments to decline; null for none. capacity: alerts that the team can read
-- in a day, for which the threshold was chosen; null for versions of before this migration.
alter table shop.models add column block_threshold double precision, add column capacity integer check (capacity > 0);

create or replace view monitoring.models as
    select version, run_id, sha256, family, threshold, feature_set, trained_from, trained_to, metrics, created_at,
           block_threshold, capacity
    from shop.models;

-- band: whether the alert is to be read, or its payment to be declined. capacity: that of the model, null without limit.
alter table shop.fraud_alerts
    add column band text not null default 'alert' check (band in ('alert', 'block')),
    add column capacity integer check (capacity > 0);
create index on shop.fraud_alerts (timestamp);

create or replace view monitoring.alerts as
    select transaction_id, timestamp, amount, score, threshold, model_version, reasons, created_at,
           topic, partition, "offset", band, capacity
    from shop.fraud_alerts;

-- The alerts of each UTC day of the payments, and how many of them are more than the team can read. Where several models
-- decided, the largest of their capacities counts.
create view monitoring.alert_days as
    select day, alerts, blocks, capacity, greatest(0, alerts - capacity) as held_back
    from (
        select date_trunc('day', timestamp, 'UTC') as day, count(*) as alerts,
               count(*) filter (where band = 'block') as blocks, max(capacity) as capacity
        from shop.fraud_alerts
        group by 1
    ) days;

-- The alerts that are held back: on a day with more than the team can read, those behind the capacity. Judged ones come
-- first, then those to decline, then those farthest above their model's threshold. It follows from what is stored, so
-- writers of different partitions never wait for one another, and a later, more suspicious alert takes the place of an
-- earlier one that nobody has read.
create view monitoring.held_back_alerts as
    select transaction_id, topic, partition, "offset", timestamp, day, rank, capacity
    from (
        select a.transaction_id, a.topic, a.partition, a."offset", a.timestamp, d.day, d.capacity,
               row_number() over (
                   partition by d.day
                   order by exists (select from shop.verdicts v
                                    where v.transaction_id = a.transaction_id and v.topic = a.topic
                                      and v.partition = a.partition and v."offset" = a."offset") desc,
                            a.band = 'block' desc,
                            (a.score - a.threshold) / greatest(1 - a.threshold, 1e-9) desc,
                            a.topic, a.partition, a.generation, a."offset") as rank
        from monitoring.alert_days d
        join shop.fraud_alerts a on a.timestamp >= d.day and a.timestamp < d.day + interval '24 hours'
        where d.alerts > d.capacity
    ) ranked
    where rank > capacity;

grant select on monitoring.alert_days, monitoring.held_back_alerts to app, grafana;
