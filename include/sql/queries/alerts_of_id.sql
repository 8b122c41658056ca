-- The alerts on a transaction's id, newest first: several where other events have the same id.
select transaction_id, topic, partition, "offset", user_id, timestamp, amount::double precision as amount, score,
       threshold, model_version, reasons, created_at
from shop.fraud_alerts where transaction_id = %(transaction_id)s
order by created_at desc, topic, partition, "offset"
