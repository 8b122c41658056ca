-- Alerts, labels, and how many of the scored events are no stored transactions of their own: those that were refused as
-- id_conflict, and those that repeat an event of another partition, in which they were scored again. Exact once both
-- streams have read as far.
with scored as (
    select greatest(0, t.id_conflicts - f.id_conflicts + t.duplicates - f.duplicates) as not_stored,
           greatest(0, t.id_conflicts - f.id_conflicts) as conflicts
    from shop.stream_offsets t join shop.stream_offsets f using (topic, partition, topic_id)
    where t.stream = 'transaction_stream' and f.stream = 'fraud_stream' and t.topic = %(topic)s
)
select (select count(*) from shop.fraud_alerts) as alerts,
       (select count(*) from shop.fraud_transactions) as labels,
       coalesce(sum(least(conflicts, not_stored)), 0)::bigint as scored_id_conflicts,
       coalesce(sum(not_stored - least(conflicts, not_stored)), 0)::bigint as scored_repeats
from scored
