-- Queues a record of each alert between two offsets, the first ones; returns how many and the last one's offset.
with chosen as (
    select transaction_id, user_id, timestamp, amount, score, threshold, model_version, reasons, topic, partition,
           "offset", created_at
    from shop.fraud_alerts
    where topic = %(topic)s and partition = %(partition)s and generation = %(generation)s
      and "offset" >= %(start)s and "offset" < %(end)s
    order by "offset"
    limit %(most)s
), queued as (
    insert into shop.outbox (channel, key, value)
    select %(channel)s, user_id, to_jsonb(chosen) from chosen order by "offset"
)
select count(*), max("offset") from chosen
