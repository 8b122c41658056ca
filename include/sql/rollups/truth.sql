-- Corrects what is known of the flagged transactions; one that raised no alert and turned out to be no fraud stays, as
-- not fraud.
update shop.flagged f
set is_fraud = l.is_fraud, known_at = l.known_at, scenario_id = l.scenario_id
from (select f.topic, f.partition, f.generation, f."offset", l.is_fraud, l.known_at, l.scenario_id
      from shop.flagged f left join monitoring.current_labels l using (transaction_id, timestamp)) l
where (f.topic, f.partition, f.generation, f."offset") = (l.topic, l.partition, l.generation, l."offset")
  and (f.is_fraud, f.known_at, f.scenario_id) is distinct from (l.is_fraud, l.known_at, l.scenario_id)
