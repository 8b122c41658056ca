-- One stored transaction. Names and e-mail come out masked: `personal_data` has them.
select {columns}, t.late, t.broker_time, t.stored_at, c.name, c.email, l.is_fraud, l.known_at
from shop.transactions t
join monitoring.masked_customers c on c.transaction_id = t.transaction_id
left join lateral (
    select is_fraud, known_at from shop.fraud_transactions
    where transaction_id = t.transaction_id and known_at <= now() order by known_at desc limit 1
) l on true
where t.transaction_id = %(transaction_id)s
limit 1
