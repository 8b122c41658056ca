-- depends: 0020.reconciliation

-- Each role keeps what its statements use; tests/test_roles.py has the whole matrix. Rows are read and written
-- through a partitioned table: nobody has rights on a partition itself.
revoke all on shop.transactions_default, shop.fraud_scores_default from stream_writer, trainer, app;

-- The streams read back ids, labels, states and the ledger; what else they write, they cannot read.
revoke select, update on shop.transactions, shop.dead_letters, shop.fraud_scores, shop.fraud_alerts from stream_writer;
revoke update on shop.transaction_ids, shop.scored_ids, shop.fraud_transactions from stream_writer;
revoke insert on shop.stream_leases from stream_writer;

-- Training cannot read a name or an e-mail, so none can get into a model, a run or a log.
revoke all on shop.transactions, shop.fraud_alerts, shop.verdicts, shop.stream_offsets from trainer;
grant select (transaction_id, user_id, timestamp, location, transaction_location, amount, device, merchant_id,
              merchant_category, currency, latitude, longitude, topic, partition, "offset")
    on shop.transactions to trainer;

-- A dead letter's key and raw bytes may hold anything; its detail never quotes them.
revoke all on shop.dead_letters from app;
grant select (reason, detail, topic, partition, "offset", at, replayed_at) on shop.dead_letters to app;

-- What a later migration makes is closed until it is granted: tables are so anyway, functions were not.
alter default privileges revoke execute on functions from public;
