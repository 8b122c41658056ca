-- Every change of a merchant's known frauds, from the labels as fraud_stream read them: each label counts until the
-- next one of its transaction counts.
with labels as (
    select merchant_id, is_fraud, (known_at at time zone 'UTC')::date + 1 as reported, counts_from,
           lead(counts_from) over (partition by transaction_id, timestamp order by known_at) as until
    from shop.merchant_labels
    where counts_from is not null
)
select merchant_id, reported - date '1970-01-01', change.day - date '1970-01-01', sum(change.frauds)::int
from labels cross join lateral (values (counts_from, 1), (until, -1)) as change (day, frauds)
where is_fraud and merchant_id is not null and change.day is not null
group by merchant_id, reported, change.day
