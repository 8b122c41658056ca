-- depends: 0060.parity

-- Names and e-mail come out of the database masked, unless the reader is the role `personal`, which has nothing else.
revoke select on shop.transactions from app;
grant select (transaction_id, user_id, timestamp, location, transaction_location, amount, device, merchant_id,
              merchant_category, currency, latitude, longitude, late, topic, partition, "offset", broker_time, stored_at)
    on shop.transactions to app;

create view monitoring.masked_customers with (security_barrier) as
    select transaction_id,
           regexp_replace(coalesce(full_name, concat_ws(' ', first_name, last_name)), '(\S)\S*', '\1•••', 'g') as name,
           regexp_replace(email, '^(.)[^@]*(@?).*$', '\1•••\2•••') as email
    from shop.transactions;
grant select on monitoring.masked_customers to app;

grant usage on schema shop to personal;
grant select (transaction_id, first_name, last_name, full_name, email) on shop.transactions to personal;
