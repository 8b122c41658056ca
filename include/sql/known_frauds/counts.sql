-- Known frauds of 30 days for merchants and days (since 1970): at most a few rows of each merchant and day are read.
select asked.number - 1, sum(f.frauds)
from unnest(%(merchants)s::text[], %(days)s::int[]) with ordinality as given (merchant_id, day, number)
cross join lateral (select given.merchant_id, date '1970-01-01' + given.day as day, given.number) as asked
join shop.merchant_frauds f
    on f.merchant_id = asked.merchant_id
    and f.reported > asked.day - 30 and f.reported <= asked.day and f.counts_from <= asked.day
group by asked.number
