-- How the platform is: one row of figures and lists.
with newest as (
    select extract(epoch from scored_at - broker_time)::float8 as seconds
    from monitoring.scores
    where scored_at > clock_timestamp() - interval '1 hour'
    order by scored_at desc limit 1000
), scorer as (
    select model_version from shop.stream_leases where stream = 'fraud_stream'
)
select (select percentile_cont(0.5) within group (order by seconds) from newest) as latency_p50,
       (select percentile_cont(0.95) within group (order by seconds) from newest) as latency_p95,
       (select count(*) from shop.fraud_alerts where created_at > clock_timestamp() - interval '1 hour') as alerts_hour,
       (select jsonb_build_object('version', version, 'family', family, 'threshold', threshold, 'created_at', created_at)
        from shop.models where version = (select model_version from scorer)) as champion,
       (select jsonb_build_object('version', version, 'family', family, 'threshold', threshold, 'created_at', created_at)
        from shop.models
        where version > (select model_version from scorer) order by version desc limit 1) as challenger,
       (select min(checked_at) from shop.reconciled) as reconciled_at,
       (select coalesce(jsonb_agg(jsonb_build_object('kind', kind, 'subject', subject, 'severity', severity,
                                                     'summary', summary, 'runbook', runbook, 'opened_at', opened_at)
                                  order by opened_at), '[]')
        from shop.incidents where closed_at is null) as incidents,
       (select count(*) from shop.outbox where sent_at is null and not undeliverable) as messages_waiting,
       (select count(*) from shop.outbox
        where undeliverable and created_at > clock_timestamp() - interval '1 day') as messages_undelivered
