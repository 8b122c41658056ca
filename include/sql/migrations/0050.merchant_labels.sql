-- depends: 0040.least_privilege

-- The labels as fraud_stream read them, for the features of merchants (docs/decisions/0006-known-labels.md).
-- counts_from: the first UTC day whose payments may know the label; null when it changes nothing.
create table shop.merchant_labels (
    transaction_id text collate "C" not null,
    known_at       timestamptz not null,
    is_fraud       boolean not null,
    merchant_id    text collate "C",
    counts_from    date,
    primary key (transaction_id, known_at)
);

-- The same summed: frauds of a merchant that were reported before the day `reported`, as known from the day
-- `counts_from` on. A correction takes back with a negative number what it corrects.
create table shop.merchant_frauds (
    merchant_id text collate "C" not null,
    reported    date not null,
    counts_from date not null,
    frauds      integer not null,
    primary key (merchant_id, reported, counts_from),
    check (counts_from >= reported)
);

grant select, insert on shop.merchant_labels to stream_writer;
grant select (transaction_id, timestamp, merchant_id) on shop.transactions to stream_writer;
grant select, insert, update on shop.merchant_frauds to stream_writer;
grant select on shop.merchant_labels to trainer;
grant select on shop.merchant_frauds to app;
