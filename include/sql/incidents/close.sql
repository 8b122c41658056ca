-- Closes the open incident of this kind and subject, if there is one.
update shop.incidents set closed_at = clock_timestamp()
where kind = %(kind)s and subject = %(subject)s and closed_at is null
returning id, severity, summary, runbook, closed_at
