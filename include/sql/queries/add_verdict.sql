-- Writes an analyst's verdict on an alert; changes no row when there is no such alert.
insert into shop.verdicts (transaction_id, topic, partition, "offset", is_fraud, analyst, note)
select transaction_id, topic, partition, "offset", %(is_fraud)s::boolean, %(analyst)s::text, %(note)s::text
from shop.fraud_alerts
where transaction_id = %(transaction_id)s and topic = %(topic)s and partition = %(partition)s
  and "offset" = %(offset)s
