-- Dead letters since a time by reason: how many, how many of them were replayed, and when the last one came.
select reason, count(*) as dead_letters, count(replayed_at) as replayed, max(at) as last_at
from shop.dead_letters
where at >= %(since)s
group by reason
order by dead_letters desc, reason
