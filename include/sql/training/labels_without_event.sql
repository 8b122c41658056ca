-- The labels of a time range, as they were known at a time, whose event (id and time) is not stored.
select count(*)
from shop.labels_known(%(as_of)s) l
where l.timestamp >= %(start)s and l.timestamp < %(end)s and not exists (
    select from shop.transactions t
    where t.transaction_id = l.transaction_id and t.timestamp = l.timestamp
      and t.timestamp >= %(start)s and t.timestamp < %(end)s)
