-- Events of each partition in the hours before a time, and how many there usually are in the same hours of a week.
select partition, count(*) filter (where age < %(hours)s) as events, count(*) filter (where age >= %(hours)s) / 3.0 as expected
from (
    select partition, %(at)s - timestamp as age from shop.transactions
    where topic = %(topic)s and (timestamp >= %(at)s - %(hours)s and timestamp < %(at)s
       or timestamp >= %(at)s - %(hours)s - interval '7 days' and timestamp < %(at)s - interval '7 days'
       or timestamp >= %(at)s - %(hours)s - interval '14 days' and timestamp < %(at)s - interval '14 days'
       or timestamp >= %(at)s - %(hours)s - interval '21 days' and timestamp < %(at)s - interval '21 days')
) events
group by partition
