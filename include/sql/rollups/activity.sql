-- Adds transactions to the cells of their event time.
insert into shop.activity as old (grain, at, country, category, currency, model_version, transactions, alerts, late, cents)
select grain, cell, country, category, currency, model_version, count(*), count(*) filter (where is_alert),
       count(*) filter (where late), sum(amount * 100)
from fresh
cross join (values (60), (3600), (86400)) grains (grain)
cross join lateral date_bin(make_interval(secs => grain), timestamp, timestamptz '2000-01-01 00:00Z') cell
where grain > 60 or timestamp > now() - interval '3 days'
group by grain, cell, country, category, currency, model_version
on conflict (grain, at, country, category, currency, model_version) do update
set transactions = old.transactions + excluded.transactions, alerts = old.alerts + excluded.alerts,
    late = old.late + excluded.late, cents = old.cents + excluded.cents
