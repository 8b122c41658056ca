-- How many scores fall into each of 50 bins of 0.02, by what is known now. `version` null means any model.
select least(width_bucket(score, 0, 1, 50), 50)::integer as bin,
       case when known_fraud or is_fraud then 'fraud'
            when not coalesce(known_fraud, is_fraud) then 'legitimate'
            else 'not settled yet' end as label,
       count(*) as transactions
from monitoring.labelled_scores
where timestamp >= %(since)s and timestamp < %(until)s
  and (cast(%(version)s as integer) is null or model_version = %(version)s)
group by bin, label
order by bin, label
