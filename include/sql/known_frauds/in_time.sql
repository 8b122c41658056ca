-- The same had the stream run all along: every label of stored transactions is read in time.
with labels as (
    select transaction_id, timestamp, is_fraud, (known_at at time zone 'UTC')::date + 1 as reported,
           lead((known_at at time zone 'UTC')::date + 1) over (
               partition by transaction_id, timestamp order by known_at) as until
    from shop.fraud_transactions
    where known_at > timestamp
)
select t.merchant_id, reported - date '1970-01-01', change.day - date '1970-01-01', sum(change.frauds)::int
from labels l
join shop.transactions t using (transaction_id, timestamp)
cross join lateral (values (reported, 1), (until, -1)) as change (day, frauds)
where is_fraud and t.merchant_id is not null and change.day is not null
  and reported > (%(start)s::timestamptz at time zone 'UTC')::date - 30
  and reported <= (%(end)s::timestamptz at time zone 'UTC')::date
group by t.merchant_id, reported, change.day
