-- The newest alert on a transaction.
select transaction_id, user_id, timestamp, amount::double precision as amount, score, threshold, model_version,
       reasons, created_at
from shop.fraud_alerts where transaction_id = %(transaction_id)s order by created_at desc limit 1
