-- A user's newest stored transaction, without names.
select {columns}, t.partition
from shop.transactions t where t.user_id = %(user_id)s order by t.timestamp desc limit 1
