-- All verdicts on a transaction, newest first.
select is_fraud, analyst, note, at from shop.verdicts where transaction_id = %(transaction_id)s order by id desc
