-- The messages of a channel that are to be sent now, oldest first; what another relay is sending is left out.
select id, channel, key, value, created_at, attempts
from shop.outbox
where channel = %(channel)s and sent_at is null and not undeliverable and next_attempt_at <= clock_timestamp()
order by id
limit %(batch)s
for update skip locked
