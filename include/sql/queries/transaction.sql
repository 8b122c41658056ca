-- One stored transaction. Names and e-mail come out masked unless `show_personal_data` is true.
select t.transaction_id, t.user_id, t.timestamp, t.amount::double precision as amount, t.currency,
       t.merchant_id, t.merchant_category, t.location, t.transaction_location, t.device, t.latitude, t.longitude,
       t.late, t.broker_time, t.stored_at,
       case when %(show_personal_data)s then coalesce(t.full_name, concat_ws(' ', t.first_name, t.last_name))
            else regexp_replace(coalesce(t.full_name, concat_ws(' ', t.first_name, t.last_name)),
                                '(\S)\S*', '\1•••', 'g') end as name,
       case when %(show_personal_data)s then t.email
            else regexp_replace(t.email, '^(.)[^@]*(@?).*$', '\1•••\2•••') end as email,
       l.is_fraud, l.known_at
from shop.transactions t
left join lateral (
    select is_fraud, known_at from shop.fraud_transactions
    where transaction_id = t.transaction_id and known_at <= now() order by known_at desc limit 1
) l on true
where t.transaction_id = %(transaction_id)s
limit 1
