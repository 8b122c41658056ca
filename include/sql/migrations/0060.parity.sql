-- depends: 0050.merchant_labels

-- What each parity check found (include.operations.parity_check): the features that differ from those logged are in mismatches,
-- as [{"feature", "rows", "largest", "place"}]; largest is null for a value that is not a number.
create table shop.parity_checks (
    id          bigint generated always as identity primary key,
    checked_at  timestamptz not null default now(),
    feature_set smallint not null,
    rows        bigint not null check (rows >= 0),
    merchants   bigint not null check (merchants between 0 and rows),
    left_out    bigint not null check (left_out >= 0),
    share       real not null check (share > 0 and share <= 1),
    seconds     real not null,
    mismatches  jsonb not null default '[]'
);
grant select on shop.parity_checks to trainer, app;
grant insert (feature_set, rows, merchants, left_out, share, seconds, mismatches) on shop.parity_checks to trainer;

-- Up to where the stored transactions of a partition are complete, and whether old scores are gone.
grant select (stream, topic, partition, next_offset, stored) on shop.stream_offsets to trainer;
