-- All verdicts on an alert, newest first.
select is_fraud, analyst, note, at
from shop.verdicts
where transaction_id = %(transaction_id)s and topic = %(topic)s and partition = %(partition)s
  and "offset" = %(offset)s
order by id desc
