-- Labels from before 0006.known_labels got their country by lower(), live ones by include.features.geography.country_of:
-- Straße would be straße there and strasse here. Both are the latter now, and the sums of countries are made anew.

create function pg_temp.last_part(location text) returns text language sql immutable
return btrim(regexp_replace(location, '^.*,', ''), E' \t\n\r\f\v\x1c\x1d\x1e\x1f' || U&'\0085\00a0\1680\2000\2001\2002\2003\2004'
    || U&'\2005\2006\2007\2008\2009\200a\2028\2029\202f\205f\3000');

update shop.known_labels l
set country = casefold(pg_temp.last_part(t.transaction_location) collate pg_unicode_fast)
from shop.transactions t
where t.transaction_id = l.transaction_id and t.timestamp = l.timestamp and l.is_fraud
  and l.country = lower(btrim(regexp_replace(t.transaction_location, '^.*,', '')))
  and l.country <> casefold(pg_temp.last_part(t.transaction_location) collate pg_unicode_fast);
update shop.known_labels set country = null where country = '';

delete from shop.known_frauds where kind = 'country';
insert into shop.known_frauds (kind, entity, reported, counts_from, frauds)
with labels as (
    select country, is_fraud, counts_from, (known_at at time zone 'UTC')::date + 1 as day,
           lead(counts_from) over (partition by transaction_id, timestamp order by known_at) as until
    from shop.known_labels
    where counts_from is not null
)
select 'country', country, day, change.from_day, sum(change.frauds)
from labels
cross join lateral (values (counts_from, 1), (until, -1)) as change (from_day, frauds)
where is_fraud and change.from_day is not null and country is not null
group by country, day, change.from_day
having sum(change.frauds) <> 0;
