-- Each role keeps what its statements use; tests/test_roles.py has the whole matrix. Rows are read and written through
-- a partitioned table: nobody has rights on a partition itself.

-- The streams read back ids, labels, states and the ledger; what else they write, they cannot read.
grant usage on schema shop to stream_writer;
grant insert on shop.transactions, shop.dead_letters, shop.fraud_scores, shop.fraud_alerts to stream_writer;
grant select (transaction_id, timestamp, merchant_id) on shop.transactions to stream_writer;
grant select, insert on shop.transaction_ids, shop.scored_ids, shop.fraud_transactions, shop.merchant_labels
    to stream_writer;
grant select, insert, update on shop.user_state, shop.merchant_state, shop.merchant_frauds, shop.stream_offsets
    to stream_writer;
grant select, update on shop.stream_leases to stream_writer;
grant select on shop.models to stream_writer;

-- Training cannot read a name or an e-mail, so none can get into a model, a run or a log. The ledger tells it up to
-- where the stored transactions of a partition are complete, and whether old scores are gone.
grant usage on schema shop to trainer;
grant select (transaction_id, user_id, timestamp, location, transaction_location, amount, device, merchant_id,
              merchant_category, currency, latitude, longitude, topic, partition, "offset")
    on shop.transactions to trainer;
grant select (stream, topic, partition, next_offset, stored) on shop.stream_offsets to trainer;
grant select on shop.fraud_transactions, shop.fraud_scores, shop.merchant_labels to trainer;
grant select, insert on shop.models to trainer;
grant select on shop.parity_checks to trainer;
grant insert (feature_set, rows, merchants, left_out, share, seconds, mismatches) on shop.parity_checks to trainer;
grant execute on function shop.labels_known(timestamptz) to trainer;

-- The pages see no name and no e-mail, and of a dead letter neither key nor raw bytes, which may hold anything; its
-- detail never quotes them. The form that scores a transaction by hand goes on from the user's stored state.
grant usage on schema shop to app;
grant select (transaction_id, user_id, timestamp, location, transaction_location, amount, device, merchant_id,
              merchant_category, currency, latitude, longitude, late, topic, partition, "offset", broker_time, stored_at)
    on shop.transactions to app;
grant select (reason, detail, topic, partition, "offset", at, replayed_at) on shop.dead_letters to app;
grant select on shop.fraud_transactions, shop.fraud_scores, shop.fraud_alerts, shop.verdicts, shop.user_state,
    shop.merchant_state, shop.merchant_frauds, shop.stream_offsets, shop.stream_leases, shop.reconciled, shop.models,
    shop.parity_checks to app;
grant insert (transaction_id, is_fraud, analyst, note) on shop.verdicts to app;
grant execute on function shop.labels_known(timestamptz) to app;

-- Who may see customers reads their names and e-mail, and nothing else.
grant usage on schema shop to personal;
grant select (transaction_id, first_name, last_name, full_name, email) on shop.transactions to personal;

-- The views: all for the pages, and for Grafana all but the masked customers.
grant usage on schema monitoring to grafana, app;
grant select on all tables in schema monitoring to app;
grant select on monitoring.transactions, monitoring.dead_letters, monitoring.scores, monitoring.alerts,
    monitoring.verdicts, monitoring.streams, monitoring.leases, monitoring.models, monitoring.labels,
    monitoring.current_labels, monitoring.labelled_scores to grafana;
grant execute on all functions in schema monitoring to grafana, app;
