-- Known frauds of 1, 7 and 30 days for entities and days (since 1970): at most a few rows of each entity and day are read.
select (asked.number - 1)::int,
       coalesce(sum(f.frauds) filter (where f.reported > asked.day - 1), 0)::float8,
       coalesce(sum(f.frauds) filter (where f.reported > asked.day - 7), 0)::float8,
       sum(f.frauds)::float8
from unnest(%(kinds)s::text[], %(entities)s::text[], %(days)s::int[]) with ordinality as given (kind, entity, day, number)
cross join lateral (select date '1970-01-01' + given.day as day, given.number) as asked
join shop.known_frauds f
    on f.kind = given.kind and f.entity = given.entity
    and f.reported > asked.day - 30 and f.reported <= asked.day and f.counts_from <= asked.day
group by asked.number
