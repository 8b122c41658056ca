-- Adds scores to the bins of their event time.
insert into shop.score_counts as old (grain, at, model_version, bin, transactions, alerts)
select grain, cell, model_version, score_bin, count(*), count(*) filter (where is_alert)
from fresh
cross join (values (60), (3600), (86400)) grains (grain)
cross join lateral date_bin(make_interval(secs => grain), timestamp, timestamptz '2000-01-01 00:00Z') cell
where score is not null and (grain > 60 or timestamp > now() - interval '3 days')
group by grain, cell, model_version, score_bin
on conflict (grain, at, model_version, bin) do update
set transactions = old.transactions + excluded.transactions, alerts = old.alerts + excluded.alerts
