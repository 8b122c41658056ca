-- The newest event time. Recorded data may lie far back, so the whole table is looked at when the last weeks
-- are empty.
select coalesce((select max(timestamp) from shop.transactions where timestamp > now() - interval '40 days'),
                (select max(timestamp) from shop.transactions))
