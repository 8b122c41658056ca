-- Every change of known frauds, from the labels as fraud_stream read them: each label counts until one counts that
-- outranks it (include.events.label.rank). The columns are named as the kinds of entities, in their order.
with ranked as (
    select *, (source is distinct from 'analyst')::int * 1e18 + extract(epoch from known_at) * 1e6 as rank
    from shop.known_labels
    where counts_from is not null
), before as (
    select *, max(rank) over (partition by transaction_id, timestamp order by counts_from, rank
                              rows between unbounded preceding and 1 preceding) as best
    from ranked
), labels as (
    select customer, merchant, device, category, country, category_1, category_2, category_3, category_4, is_fraud,
           (known_at at time zone 'UTC')::date + 1 as reported, counts_from,
           lead(counts_from) over (partition by transaction_id, timestamp order by counts_from, rank) as until
    from before
    where best is null or rank > best
)
select customer, merchant, device, category, country, category_1, category_2, category_3, category_4,
       reported - date '1970-01-01', change.day - date '1970-01-01', change.frauds
from labels cross join lateral (values (counts_from, 1), (until, -1)) as change (day, frauds)
where is_fraud and change.day is not null
