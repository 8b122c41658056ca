-- Takes the messages of a channel that wait, oldest first: they count as sent.
with taken as (
    update shop.outbox set sent_at = clock_timestamp(), attempts = attempts + 1
    where channel = %(channel)s and sent_at is null and not undeliverable
    returning id, value
)
select value from taken order by id
