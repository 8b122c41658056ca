-- What candidates would have decided otherwise (include.training.decision_diff): one row a comparison.
create table shop.decision_diffs (
    id        bigint generated always as identity primary key,
    at        timestamptz not null default now(),
    version   integer not null,
    threshold double precision not null,
    starts    timestamptz not null,
    ends      timestamptz not null check (ends > starts),
    result    jsonb not null
);
grant select, insert (version, threshold, starts, ends, result) on shop.decision_diffs to trainer;
grant select on shop.decision_diffs to app;
