-- Name and e-mail of a transaction's customer, for the role `personal` only.
select coalesce(full_name, concat_ws(' ', first_name, last_name)) as name, email
from shop.transactions
where transaction_id = %(transaction_id)s
limit 1
