-- Transactions by decision and by the settled truth (null: not settled yet). `version` null means any model.
select is_alert, is_fraud, count(*) as transactions
from monitoring.labelled_scores
where timestamp >= %(since)s and timestamp < %(until)s
  and (cast(%(version)s as integer) is null or model_version = %(version)s)
group by is_alert, is_fraud
order by is_alert, is_fraud
