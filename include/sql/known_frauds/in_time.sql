-- The same had the stream run all along: every label of stored transactions is read in time. The entities are still the
-- fields of the transaction.
with labels as (
    select transaction_id, timestamp, is_fraud, (known_at at time zone 'UTC')::date + 1 as reported,
           lead((known_at at time zone 'UTC')::date + 1) over (
               partition by transaction_id, timestamp order by known_at) as until
    from shop.fraud_transactions
    where known_at > timestamp
)
select t.user_id, t.merchant_id, t.device, t.merchant_category, t.transaction_location,
       reported - date '1970-01-01', change.day - date '1970-01-01', change.frauds
from labels l
join shop.transactions t using (transaction_id, timestamp)
cross join lateral (values (reported, 1), (until, -1)) as change (day, frauds)
where is_fraud and change.day is not null
  and reported > (%(start)s::timestamptz at time zone 'UTC')::date - 30
  and reported <= (%(end)s::timestamptz at time zone 'UTC')::date
