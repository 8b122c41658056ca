-- Opens an incident, or brings the open one of this kind and subject up to date; `opened` is false then.
insert into shop.incidents (kind, subject, severity, summary, evidence, runbook)
values (%(kind)s, %(subject)s, %(severity)s, %(summary)s, %(evidence)s, %(runbook)s)
on conflict (kind, subject) where closed_at is null do update
set summary = excluded.summary, evidence = excluded.evidence
returning id, opened_at, xmax = 0 as opened
