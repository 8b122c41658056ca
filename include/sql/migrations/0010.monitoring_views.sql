-- depends: 0003.ledger

-- The form that scores a transaction by hand goes on from the user's stored state.
grant select on shop.user_state to app;

-- The label of each transaction as it is known now: its latest one.
create view monitoring.current_labels as
    select l.transaction_id, l.is_fraud, l.known_at, l.scenario_id
    from shop.fraud_transactions l
    where l.known_at <= now() and not exists (
        select from shop.fraud_transactions later
        where later.transaction_id = l.transaction_id and later.known_at > l.known_at and later.known_at <= now());

-- Every score with the label known now, or null. An event whose id another transaction owned does not count. (The
-- anti-join with those few takes a sixth of the time of a join with all transactions.)
create view monitoring.labelled_scores as
    select s.transaction_id, s.timestamp, s.score, s.is_alert, s.model_version, s.scored_at,
           l.is_fraud, l.known_at, l.scenario_id
    from shop.fraud_scores s
    left join monitoring.current_labels l using (transaction_id)
    where not exists (
        select from shop.dead_letters d
        where d.reason = 'id_conflict'
          and d.topic = s.topic and d.partition = s.partition and d."offset" = s."offset");

-- How well the scores of each UTC day separate fraud, measured on the transactions whose label is known now.
-- Average precision is the sum over ranks of (recall gained x precision), ties counted as one rank. A day without
-- a known fraud has no recall and no average precision: null.
create function monitoring.daily_performance(since timestamptz, until timestamptz)
returns table (day timestamptz, transactions bigint, labelled bigint, frauds bigint, alerts bigint,
               alerts_labelled bigint, caught bigint, "precision" double precision, recall double precision,
               average_precision double precision, versions integer[])
language sql stable parallel safe
as $$
    with scores as materialized (
        select date_trunc('day', s.timestamp, 'UTC') as day, s.score, s.is_alert, s.is_fraud, s.model_version
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
        select s.day, count(*) as transactions, count(is_fraud) as labelled,
               count(*) filter (where is_fraud) as frauds, count(*) filter (where is_alert) as alerts,
               count(is_fraud) filter (where is_alert) as alerts_labelled,
               count(*) filter (where is_alert and is_fraud) as caught
        from scores s
        group by s.day
    ), versions as (
        select v.day, array_agg(v.model_version order by v.model_version) as versions
        from (select s.day, s.model_version from scores s group by s.day, s.model_version) v
        group by v.day
    )
    select day, c.transactions, c.labelled, c.frauds, c.alerts, c.alerts_labelled, c.caught,
           c.caught::double precision / nullif(c.alerts_labelled, 0),
           c.caught::double precision / nullif(c.frauds, 0), p.average_precision, v.versions
    from counts c join versions v using (day) left join precisions p using (day)
$$;

-- An analyst's decision about a transaction: the last one. Who decided stays out of Grafana's reach.
create view monitoring.verdicts as
    select distinct on (transaction_id) transaction_id, is_fraud, at
    from shop.verdicts
    order by transaction_id, id desc;

create view monitoring.leases as
    select stream, state, detail, model_version, heartbeat_at from shop.stream_leases;

revoke execute on function monitoring.daily_performance(timestamptz, timestamptz) from public;
grant execute on function monitoring.daily_performance(timestamptz, timestamptz) to grafana, app;
grant select on monitoring.current_labels, monitoring.labelled_scores, monitoring.verdicts, monitoring.leases
    to grafana, app;
