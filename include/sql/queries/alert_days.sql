-- How many alerts the payments of each UTC day raised, how many of them are to be declined, and how many are held back.
select day, alerts, blocks, capacity, held_back
from monitoring.alert_days
where day >= date_trunc('day', %(since)s::timestamptz, 'UTC') and day < %(until)s
order by day
