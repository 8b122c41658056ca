-- Every change of known frauds, from the labels as fraud_stream read them: each label counts until the next one of its
-- transaction counts. The columns are named as the kinds of entities, in their order.
with labels as (
    select customer, merchant, device, category, country, category_1, category_2, category_3, category_4, is_fraud,
           (known_at at time zone 'UTC')::date + 1 as reported, counts_from,
           lead(counts_from) over (partition by transaction_id, timestamp order by known_at) as until
    from shop.known_labels
    where counts_from is not null
)
select customer, merchant, device, category, country, category_1, category_2, category_3, category_4,
       reported - date '1970-01-01', change.day - date '1970-01-01', change.frauds
from labels cross join lateral (values (counts_from, 1), (until, -1)) as change (day, frauds)
where is_fraud and change.day is not null
