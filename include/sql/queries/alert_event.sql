-- The event that an alert was raised on, and what became of it (`fate`): stored; refused, as another event owns its id;
-- unread, while the transaction stream is behind; repeated, when it is a stored one sent again; or deleted. Of a deleted
-- or unread one only what the alert has is known. Names and e-mail come out masked: `personal_data` has them.
with alert as (
    select transaction_id, topic, partition, generation, "offset", user_id, timestamp, amount
    from shop.fraud_alerts
    where transaction_id = %(transaction_id)s and topic = %(topic)s and partition = %(partition)s
      and "offset" = %(offset)s
)
select case when event.itself then 'stored'
            when letter.refused then 'refused'
            when ledger.is_read is not true then 'unread'
            when event.itself is not null then 'repeated'
            else 'deleted' end as fate,
       event.*, c.name, c.email, label.is_fraud, label.known_at
from alert a
left join lateral (
    select true as refused, event as content from shop.dead_letters
    where reason = 'id_conflict' and topic = a.topic and partition = a.partition and generation = a.generation
      and "offset" = a."offset" limit 1
) letter on true
left join lateral (
    select a.generation < generation or (a.generation = generation and next_offset > a."offset") as is_read from shop.stream_offsets
    where stream = 'transaction_stream' and topic = a.topic and partition = a.partition
) ledger on true
cross join lateral (
    select t.topic = a.topic and t.partition = a.partition and t."offset" = a."offset" as itself, t.late, {columns}
    from shop.transactions t
    where t.transaction_id = a.transaction_id and t.timestamp = a.timestamp
      and t.user_id = a.user_id and t.amount = a.amount and letter.refused is null
    union all
    select null, false, {columns}
    from jsonb_populate_record(null::shop.transactions, coalesce(letter.content, '{}') || to_jsonb(a)) t
    order by itself nulls last
    limit 1
) event
left join monitoring.masked_customers c on c.transaction_id = event.transaction_id and event.itself is not null
left join lateral (  -- two events with one id and one time: the label is that of the stored one
    select is_fraud, known_at from shop.fraud_transactions l
    where l.transaction_id = a.transaction_id and l.timestamp = a.timestamp and l.known_at <= now()
      and (letter.refused is null or not exists (
          select from shop.transactions o where o.transaction_id = l.transaction_id and o.timestamp = l.timestamp))
    order by (source is distinct from 'analyst') desc, known_at desc limit 1
) label on true
