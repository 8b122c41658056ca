-- What the hourly monitor of the model found (include.operations.model_monitor): one row a look.
-- at: the newest payment's time. shift, changed: by aspect, as in include.training.drift.Health.
create table shop.model_health (
    id         bigint generated always as identity primary key,
    checked_at timestamptz not null default now(),
    at         timestamptz not null,
    version    integer not null,
    cause      text,
    subject    text not null default '',
    shift      jsonb not null default '{}',
    changed    jsonb not null default '{}',
    evidence   jsonb not null default '{}'
);
create index on shop.model_health (checked_at);
grant select, insert (at, version, cause, subject, shift, changed, evidence) on shop.model_health to trainer;
grant select on shop.model_health to app;

create view monitoring.model_health as
    select checked_at, at, version, cause, subject, shift, changed, evidence from shop.model_health;
grant select on monitoring.model_health to app, grafana;

-- The monitor opens and closes incidents itself, with the messages that tell of them.
grant select, insert, update on shop.incidents to trainer;
grant insert (channel, key, value) on shop.outbox to trainer;
grant usage on schema monitoring to trainer;
grant select on monitoring.alert_days to trainer;
