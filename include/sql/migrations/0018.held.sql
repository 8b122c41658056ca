-- held: an operator stopped the job; it stays so, also when the platform starts anew, until an operator starts it.
-- (stop_requested is the platform's own request, while it goes down.)
alter table shop.stream_leases add column held boolean not null default false;

-- The relay shows how the streams are (include.operations.figures).
grant usage on schema monitoring to relay;
grant select on monitoring.scores to relay;
