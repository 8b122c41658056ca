-- A message was not taken: it is sent again after a pause, unless it was refused or its time is over.
update shop.outbox
set attempts = attempts + 1, last_error = %(error)s, next_attempt_at = clock_timestamp() + %(pause)s,
    undeliverable = %(refused)s
        or coalesce(clock_timestamp() + %(pause)s > created_at + %(patience)s::interval, false)
where id = %(id)s
