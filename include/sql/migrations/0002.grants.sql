-- depends: 0001.shop
grant usage on schema shop to stream_writer, trainer, app;
revoke execute on all functions in schema shop from public;

grant select, insert, update on all tables in schema shop to stream_writer;
revoke all on shop.models, shop.verdicts from stream_writer;
grant select on shop.models to stream_writer;

grant select on shop.transactions, shop.fraud_transactions, shop.fraud_scores, shop.fraud_alerts,
    shop.verdicts, shop.models, shop.stream_offsets to trainer;
grant insert on shop.models to trainer;

grant select on all tables in schema shop to app;
revoke select on shop.user_state, shop.transaction_ids, shop.scored_ids from app;
grant insert (transaction_id, is_fraud, analyst, note) on shop.verdicts to app;

grant execute on function shop.labels_known(timestamptz) to trainer, app;

-- Grafana reads only these views: no names, no e-mail, no raw values.
create view monitoring.transactions as
    select transaction_id, timestamp, amount, currency, location, transaction_location, device,
           merchant_category, late, broker_time, stored_at
    from shop.transactions;
create view monitoring.scores as
    select transaction_id, timestamp, score, is_alert, model_version, broker_time, scored_at
    from shop.fraud_scores;
create view monitoring.alerts as
    select transaction_id, timestamp, amount, score, threshold, model_version, reasons, created_at
    from shop.fraud_alerts;
create view monitoring.labels as
    select transaction_id, timestamp, is_fraud, known_at, scenario_id
    from shop.fraud_transactions where known_at <= now();
create view monitoring.dead_letters as
    select reason, topic, partition, "offset", at, replayed_at from shop.dead_letters;
create view monitoring.streams as
    select o.*, l.state, l.detail, l.model_version, l.heartbeat_at
    from shop.stream_offsets o join shop.stream_leases l using (stream);
create view monitoring.models as
    select * from shop.models;
grant usage on schema monitoring to grafana, app;
grant select on all tables in schema monitoring to grafana, app;
