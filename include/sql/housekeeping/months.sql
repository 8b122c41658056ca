-- The partitions of a table for ranges of time [first, end), oldest first; the default partition has no range.
select c.relname as name,
       (regexp_match(bound, 'FROM \(''(.*?)''\)'))[1]::timestamptz as first,
       (regexp_match(bound, 'TO \(''(.*?)''\)'))[1]::timestamptz as "end"
from pg_inherits i
join pg_class c on c.oid = i.inhrelid
cross join lateral pg_get_expr(c.relpartbound, c.oid) as bound
where i.inhparent = %s::regclass and bound <> 'DEFAULT'
order by first
