-- Writes an analyst's verdict on a transaction that has an alert; changes no row when there is none.
insert into shop.verdicts (transaction_id, is_fraud, analyst, note)
select %(transaction_id)s::text, %(is_fraud)s::boolean, %(analyst)s::text, %(note)s::text
where exists (select from shop.fraud_alerts where transaction_id = %(transaction_id)s)
