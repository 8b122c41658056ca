-- Known frauds of customers, devices, categories, countries and the whole shop beside those of merchants
-- (include.features.known_frauds).

-- The labels as fraud_stream read them, with the entities of a fraud.
alter table shop.merchant_labels rename to known_labels;
alter table shop.known_labels rename constraint merchant_labels_pkey to known_labels_pkey;
alter table shop.known_labels rename column merchant_id to merchant;
alter table shop.known_labels
    add column customer text collate "C",
    add column device text collate "C",
    add column category text collate "C",
    add column country text collate "C";
update shop.known_labels l
set customer = t.user_id, device = nullif(t.device, ''),
    category = nullif(t.merchant_category, ''),
    country = nullif(lower(btrim(regexp_replace(t.transaction_location, '^.*,', ''))), '')
from shop.transactions t
where t.transaction_id = l.transaction_id and t.timestamp = l.timestamp and l.is_fraud;

-- The same summed: frauds of an entity that were reported before the day `reported`, as known from the day
-- `counts_from` on. A correction takes back with a negative number what it corrects.
create table shop.known_frauds (
    kind        text collate "C" not null,
    entity      text collate "C" not null,
    reported    date not null,
    counts_from date not null,
    frauds      integer not null,
    primary key (kind, entity, reported, counts_from),
    check (counts_from >= reported)
);
insert into shop.known_frauds (kind, entity, reported, counts_from, frauds)
with labels as (
    select *, (known_at at time zone 'UTC')::date + 1 as day,
           lead(counts_from) over (partition by transaction_id, timestamp order by known_at) as until
    from shop.known_labels
    where counts_from is not null
)
select entity.kind, entity.name, day, change.from_day, sum(change.frauds)
from labels
cross join lateral (values (counts_from, 1), (until, -1)) as change (from_day, frauds)
cross join lateral (values ('shop', ''), ('customer', customer), ('device', device), ('category', category),
                           ('country', country)) as entity (kind, name)
where is_fraud and change.from_day is not null and entity.name is not null
group by entity.kind, entity.name, day, change.from_day
having sum(change.frauds) <> 0
union all
select 'merchant', merchant_id, reported, counts_from, frauds from shop.merchant_frauds;
drop table shop.merchant_frauds;
grant select, insert, update on shop.known_frauds to stream_writer;
grant select on shop.known_frauds to app;

-- Where a label does not say what its payment was made by, at, with and from, the stored transaction does.
grant select (user_id, device, merchant_category, transaction_location) on shop.transactions to stream_writer;
