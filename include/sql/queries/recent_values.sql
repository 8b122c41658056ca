-- The customers and field values of the newest transactions, to choose from in a form.
with recent as (
    select user_id, device, merchant_id, merchant_category, transaction_location, location, currency
    from shop.transactions order by timestamp desc limit 2000
)
select 'user_id' as field, user_id as value, count(*) as transactions from recent group by user_id
union all select 'device', device, count(*) from recent where device is not null group by device
union all select 'merchant_id', merchant_id, count(*) from recent where merchant_id is not null group by merchant_id
union all select 'merchant_category', merchant_category, count(*) from recent
    where merchant_category is not null group by merchant_category
union all select 'location', transaction_location, count(*) from recent
    where transaction_location is not null group by transaction_location
union all select 'currency', currency, count(*) from recent where currency is not null group by currency
order by field, transactions desc, value
