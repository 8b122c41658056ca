-- Settled frauds by scenario, where the truth names one: how many, and how many raised an alert.
select scenario_id as scenario, count(*) as frauds, count(*) filter (where is_alert) as caught
from monitoring.labelled_scores
where timestamp >= %(since)s and timestamp < %(until)s and is_fraud and scenario_id is not null
  and (cast(%(version)s as integer) is null or model_version = %(version)s)
group by scenario_id
order by frauds desc, scenario
