-- How many messages of a type a receiver got within an hour, the most of any, and whether one was made just now.
select coalesce(max(messages), 0), coalesce(bool_or(newest > clock_timestamp() - %(pause)s), false)
from (select count(*) as messages, max(created_at) as newest
      from shop.outbox
      where created_at > clock_timestamp() - interval '1 hour' and channel in ('webhook', 'slack', 'mail')
        and value ->> 'type' = %(type)s
      group by channel, key) as receivers
