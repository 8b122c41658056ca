-- An identical event that came in two Kafka partitions is stored once and scored in both. Only the score of the stored
-- one counts.

-- Scores of events that are stored from another place in the log. The ledgers say whether there can be any: in an
-- event that came twice in one partition the streams see the same duplicate. Without them nothing is joined.
create view monitoring.repeated_scores as
    select s.topic, s.partition, s.generation, s."offset"
    from shop.fraud_scores s
    join shop.transactions t using (transaction_id, timestamp)
    where (t.topic, t.partition, t.generation, t."offset") <> (s.topic, s.partition, s.generation, s."offset")
      and (select exists (
          select from (
              select stream, topic, partition, generation, duplicates from shop.stream_offsets
              union all
              select stream, topic, partition, generation, duplicates from shop.closed_offsets
          ) read
          group by topic, partition, generation
          having sum(duplicates) filter (where stream = 'transaction_stream')
               > coalesce(sum(duplicates) filter (where stream = 'fraud_stream'), 0)));

create or replace view monitoring.labelled_scores as
    select s.transaction_id, s.timestamp, s.score, s.is_alert, s.model_version, s.scored_at,
           l.is_fraud as known_fraud, l.known_at, l.scenario_id,
           case when s.timestamp < (select monitoring.labels_settled_until()) then coalesce(l.is_fraud, false) end
               as is_fraud,
           s.topic, s.partition, s."offset"
    from shop.fraud_scores s
    left join monitoring.current_labels l using (transaction_id, timestamp)
    where not exists (
        select from shop.dead_letters d
        where d.reason = 'id_conflict' and d.topic = s.topic and d.partition = s.partition
          and d.generation = s.generation and d."offset" = s."offset")
      and not exists (
        select from monitoring.repeated_scores r
        where r.topic = s.topic and r.partition = s.partition
          and r.generation = s.generation and r."offset" = s."offset");
