-- Remembers when the cells were brought up to date, and how long labels take.
insert into shop.rollup_state as old (refreshed_at, settle_after)
select now(), now() - monitoring.labels_settled_until()
on conflict (only_row) do update set refreshed_at = excluded.refreshed_at, settle_after = excluded.settle_after
