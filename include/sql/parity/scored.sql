-- What fraud_stream scored, in the order of the log, a topic that was deleted before the one that was created after it, as far as transaction_stream has stored it: the logged vector, whose
-- it is, whether shop.transactions holds that event, and its fields without names and e-mail, which no feature uses.
select s.partition, s."offset", s.feature_set, s.features, s.user_id as customer, t."offset" is not null as stored,
       {columns}
from shop.fraud_scores s
join shop.stream_offsets o on o.stream = 'transaction_stream' and o.topic = s.topic and o.partition = s.partition
    and (s.generation < o.generation or (s.generation = o.generation and s."offset" < o.next_offset))
left join shop.transactions t on t.transaction_id = s.transaction_id and t.timestamp = s.timestamp
    and t.topic = s.topic and t.partition = s.partition and t."offset" = s."offset"
where abs(mod(hashtextextended(s.user_id, 1), 1000000)) < %(share)s * 1000000
order by s.topic, s.partition, s.generation, s."offset"
