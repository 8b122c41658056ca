-- The same had the stream run all along: every label is read in time. The entities are those that the label names, and
-- else the fields of the stored transaction; a label whose event is not stored counts for what it names.
with ranked as (
    select transaction_id, timestamp, known_at, is_fraud, (known_at at time zone 'UTC')::date + 1 as reported,
           (source is distinct from 'analyst')::int * 1e18 + extract(epoch from known_at) * 1e6 as rank
    from shop.fraud_transactions
    where known_at > timestamp
), before as (
    select *, max(rank) over (partition by transaction_id, timestamp order by reported, rank
                              rows between unbounded preceding and 1 preceding) as best
    from ranked
), labels as (
    select *, lead(reported) over (partition by transaction_id, timestamp order by reported, rank) as until
    from before
    where best is null or rank > best
)
select coalesce(k.customer, t.user_id) as user_id, coalesce(k.merchant, t.merchant_id) as merchant_id,
       coalesce(k.device, t.device) as device, coalesce(k.category, t.merchant_category) as merchant_category,
       coalesce(k.country, t.transaction_location) as transaction_location,
       coalesce(k.category_1, t.category_1) as category_1, coalesce(k.category_2, t.category_2) as category_2,
       coalesce(k.category_3, t.category_3) as category_3, coalesce(k.category_4, t.category_4) as category_4,
       reported - date '1970-01-01', change.day - date '1970-01-01', change.frauds
from labels l
left join shop.transactions t using (transaction_id, timestamp)
left join shop.known_labels k using (transaction_id, timestamp, known_at)
cross join lateral (values (reported, 1), (until, -1)) as change (day, frauds)
where l.is_fraud and change.day is not null
  and reported > (%(start)s::timestamptz at time zone 'UTC')::date - 30
  and reported <= (%(end)s::timestamptz at time zone 'UTC')::date
