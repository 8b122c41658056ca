-- A reader of alerts has passed the offsets of a partition before this one.
insert into shop.alert_cursor (reader, topic, partition, generation, next_offset)
values (%(reader)s, %(topic)s, %(partition)s, %(generation)s, %(next_offset)s)
on conflict (reader, topic, partition, generation) do update set next_offset = excluded.next_offset
