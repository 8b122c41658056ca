-- Who or what made which version champion, when and why. Both tables only grow, for everybody.

-- One row before the alias is changed in MLflow, or when it is found to have been changed there.
-- version: null where the alias was removed. evidence: sha256 of the comparison in the version's run.
create table shop.promotions (
    id           bigint generated always as identity primary key,
    at           timestamptz not null default clock_timestamp(),
    kind         text not null check (kind in ('promotion', 'rollback', 'by hand', 'found')),
    version      integer,
    from_version integer,
    actor        text not null,
    reason       text not null,
    mode         text not null check (mode in ('auto', 'human')),
    parity       text not null check (parity in ('clean', 'passed over', 'not asked')),
    evidence     text check (evidence ~ '^[0-9a-f]{64}$')
);

-- Whether the alias was changed. A promotion without a row here was interrupted; whoever looks next sees what the
-- alias is and adds it.
create table shop.promotion_outcomes (
    promotion_id bigint primary key,
    done         boolean not null,
    at           timestamptz not null default clock_timestamp()
);

create function shop.refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '%.% only grows: rows are neither changed nor deleted', tg_table_schema, tg_table_name;
end
$$;
create trigger only_grows before update or delete on shop.promotions
    for each statement execute function shop.refuse_change();
create trigger only_grows before update or delete on shop.promotion_outcomes
    for each statement execute function shop.refuse_change();

grant select on shop.promotions, shop.promotion_outcomes to trainer, stream_writer, app;
grant insert (kind, version, from_version, actor, reason, mode, parity, evidence) on shop.promotions
    to trainer, stream_writer;
grant insert (promotion_id, done) on shop.promotion_outcomes to trainer, stream_writer;

create view monitoring.promotions as
    select p.id, p.at, p.kind, p.version, p.from_version, p.mode, p.parity, p.evidence, o.done
    from shop.promotions p left join shop.promotion_outcomes o on o.promotion_id = p.id;
grant select on monitoring.promotions to app, grafana;
