-- The customers and texts of the newest transactions, to choose from in a form, and how often each came.
with recent as (select {columns} from shop.transactions t order by t.timestamp desc limit 2000)
select given.key as field, given.value #>> '{}' as value, count(*) as transactions
from recent cross join lateral jsonb_each(to_jsonb(recent) - 'transaction_id' - 'timestamp') as given
where jsonb_typeof(given.value) = 'string'
group by given.key, given.value
order by field, transactions desc, value
