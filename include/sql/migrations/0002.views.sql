-- What pages and dashboards read. Grafana reads nothing else: no names, no e-mail, no raw values.

-- What was stored and scored -------------------------------------------------------------------------------------

create view monitoring.transactions as
    select transaction_id, timestamp, amount, currency, location, transaction_location, device,
           merchant_category, late, broker_time, stored_at
    from shop.transactions;

create view monitoring.dead_letters as
    select reason, topic, partition, "offset", at, replayed_at from shop.dead_letters;

create view monitoring.scores as
    select transaction_id, timestamp, score, is_alert, model_version, broker_time, scored_at
    from shop.fraud_scores;

create view monitoring.alerts as
    select transaction_id, timestamp, amount, score, threshold, model_version, reasons, created_at
    from shop.fraud_alerts;

-- An analyst's decision about a transaction: the last one. Who decided stays out of Grafana's reach.
create view monitoring.verdicts as
    select distinct on (transaction_id) transaction_id, is_fraud, at
    from shop.verdicts
    order by transaction_id, id desc;

-- Names and e-mail come out of the database masked, unless the reader is the role `personal`, which has nothing else.
create view monitoring.masked_customers with (security_barrier) as
    select transaction_id,
           regexp_replace(coalesce(full_name, concat_ws(' ', first_name, last_name)), '(\S)\S*', '\1•••', 'g') as name,
           regexp_replace(email, '^(.)[^@]*(@?).*$', '\1•••\2•••') as email
    from shop.transactions;

create view monitoring.streams as
    select o.stream, o.topic, o.partition, o.topic_id, o.first_offset, o.next_offset, o.stored, o.dead_letters,
           o.duplicates, o.late, o.unknown_fields, o.epoch, o.committed_at,
           l.state, l.detail, l.model_version, l.heartbeat_at
    from shop.stream_offsets o join shop.stream_leases l using (stream);

create view monitoring.leases as
    select stream, state, detail, model_version, heartbeat_at from shop.stream_leases;

create view monitoring.models as
    select version, run_id, sha256, family, threshold, feature_set, trained_from, trained_to, metrics, created_at
    from shop.models;


-- Labels, and how good the scores are ----------------------------------------------------------------------------

create view monitoring.labels as
    select transaction_id, timestamp, is_fraud, known_at, scenario_id
    from shop.fraud_transactions where known_at <= now();

-- The label of each transaction as it is known now: its latest one.
create view monitoring.current_labels as
    select l.transaction_id, l.timestamp, l.is_fraud, l.known_at, l.scenario_id
    from shop.fraud_transactions l
    where l.known_at <= now() and not exists (
        select from shop.fraud_transactions later
        where later.transaction_id = l.transaction_id and later.known_at > l.known_at and later.known_at <= now());

-- The time before which labels are settled, by the rule of include.training.evaluation: where only fraud is reported, a
-- transaction without a label counts as not fraud once it is older than 3 days, or than the delay within which 90 %
-- of the known frauds were reported. Where labels come with the events it is now.
create function monitoring.labels_settled_until() returns timestamptz
language sql stable parallel safe
as $$
    select case
        when (select avg((l.transaction_id is not null)::integer) >= 0.95
              from (select s.transaction_id from monitoring.scores s order by s.scored_at desc offset 1000 limit 1000) s
              left join monitoring.current_labels l using (transaction_id)) then now()
        else now() - greatest(interval '3 days', (
            select make_interval(secs => percentile_cont(0.9) within group (
                order by extract(epoch from known_at - timestamp)::double precision))
            from monitoring.current_labels where is_fraud))
        end
$$;

-- Every score with what is known of its transaction now: known_fraud is its label, or null; is_fraud is the settled
-- truth, null while it is not settled. An event whose id another transaction owned does not count. (The anti-join
-- with those few takes a sixth of the time of a join with all transactions.)
create view monitoring.labelled_scores as
    select s.transaction_id, s.timestamp, s.score, s.is_alert, s.model_version, s.scored_at,
           l.is_fraud as known_fraud, l.known_at, l.scenario_id,
           case when s.timestamp < (select monitoring.labels_settled_until()) then coalesce(l.is_fraud, false) end
               as is_fraud
    from shop.fraud_scores s
    left join monitoring.current_labels l using (transaction_id)
    where not exists (
        select from shop.dead_letters d
        where d.reason = 'id_conflict'
          and d.topic = s.topic and d.partition = s.partition and d."offset" = s."offset");

-- How well the scores of each UTC day separate fraud. Precision, recall and average precision are over the settled
-- transactions: settled, frauds, alerts_settled and caught; known_frauds and known_caught also count younger ones.
-- Average precision is the sum over ranks of (recall gained x precision), ties counted as one rank. A day without a
-- settled fraud has no recall and no average precision: null.
create function monitoring.daily_performance(since timestamptz, until timestamptz)
returns table (day timestamptz, transactions bigint, settled bigint, frauds bigint, alerts bigint,
               alerts_settled bigint, caught bigint, known_frauds bigint, known_caught bigint,
               "precision" double precision, recall double precision, average_precision double precision,
               versions integer[])
language sql stable parallel safe
as $$
    with scores as materialized (
        select date_trunc('day', s.timestamp, 'UTC') as day, s.score, s.is_alert, s.is_fraud, s.known_fraud,
               s.model_version
        from monitoring.labelled_scores s
        where s.timestamp >= since and s.timestamp < until
    ), ranked as (
        select s.day, s.is_fraud,
               count(*) filter (where is_fraud) over ranks::double precision / count(*) over ranks as precision_at
        from scores s
        where is_fraud is not null
        window ranks as (partition by s.day order by s.score desc)
    ), precisions as (
        select r.day, avg(precision_at) as average_precision from ranked r where is_fraud group by r.day
    ), counts as (
        select s.day, count(*) as transactions, count(is_fraud) as settled,
               count(*) filter (where is_fraud) as frauds, count(*) filter (where is_alert) as alerts,
               count(is_fraud) filter (where is_alert) as alerts_settled,
               count(*) filter (where is_alert and is_fraud) as caught,
               count(*) filter (where known_fraud) as known_frauds,
               count(*) filter (where is_alert and known_fraud) as known_caught
        from scores s
        group by s.day
    ), versions as (
        select v.day, array_agg(v.model_version order by v.model_version) as versions
        from (select s.day, s.model_version from scores s group by s.day, s.model_version) v
        group by v.day
    )
    select day, c.transactions, c.settled, c.frauds, c.alerts, c.alerts_settled, c.caught, c.known_frauds,
           c.known_caught, c.caught::double precision / nullif(c.alerts_settled, 0),
           c.caught::double precision / nullif(c.frauds, 0), p.average_precision, v.versions
    from counts c join versions v using (day) left join precisions p using (day)
$$;
