-- Verdicts become labels: each verdict's own transaction writes the label's event into the outbox, from which
-- include.operations.relay publishes it.

-- Who reported a label: 'analyst', or nothing for what the bank says (a chargeback), which outranks any analyst.
alter table shop.fraud_transactions
    add column source text collate "C", add column reported_by text, add column label_id text collate "C";
alter table shop.known_labels add column source text collate "C";

-- In event time, as all that is known: when the verdict is known. Never that of an earlier verdict on the same alert.
alter table shop.verdicts add column known_at timestamptz;

-- The event of the label that a verdict makes (docs/events.md).
create function shop.verdict_label(verdict shop.verdicts, user_id text, "timestamp" timestamptz) returns jsonb
language sql stable
return jsonb_build_object(
    'transaction_id', (verdict).transaction_id,
    'timestamp', to_char("timestamp" at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    'is_fraud', (verdict).is_fraud,
    'known_at', to_char((verdict).known_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    'source', 'analyst', 'reported_by', left((verdict).analyst, 128), 'label_id', 'verdict-' || (verdict).id,
    'user_id', user_id);
grant execute on function shop.verdict_label(shop.verdicts, text, timestamptz) to app;

create function shop.publish_verdict() returns trigger language plpgsql as $$
declare
    alert record;
begin
    select a.user_id, a.timestamp into alert from shop.fraud_alerts a
    where a.transaction_id = new.transaction_id and a.topic = new.topic and a.partition = new.partition
      and a."offset" = new."offset";
    if not found then
        return new;
    end if;
    -- Two verdicts on an event at once wait for one another, so that the later one has the later time.
    perform pg_advisory_xact_lock(hashtext('fraudstream verdicts'), hashtext(new.transaction_id));
    new.known_at := greatest(
        alert.timestamp + interval '1 microsecond',
        coalesce((select max(watermark) from shop.stream_offsets
                  where stream = 'transaction_stream' and topic = new.topic), new.at),
        (select max(known_at) + interval '1 microsecond' from shop.verdicts
         where transaction_id = new.transaction_id));
    insert into shop.outbox (channel, key, value) values (
        'labels', alert.user_id, shop.verdict_label(new, alert.user_id, alert.timestamp));
    return new;
end
$$;
-- Verdicts of before this migration are labels, too.
update shop.verdicts set known_at = at;
insert into shop.outbox (channel, key, value)
select 'labels', a.user_id, shop.verdict_label(v, a.user_id, a.timestamp)
from shop.verdicts v
join shop.fraud_alerts a on a.transaction_id = v.transaction_id and a.topic = v.topic and a.partition = v.partition
    and a."offset" = v."offset"
order by v.id;

create trigger publish before insert on shop.verdicts for each row execute function shop.publish_verdict();

-- The labels as they were known at a time: of each event the latest one, what the bank says before what analysts say.
drop function shop.labels_known(timestamptz);
create function shop.labels_known(as_of timestamptz)
returns table (transaction_id text, "timestamp" timestamptz, is_fraud boolean, known_at timestamptz, scenario_id text,
               source text)
language sql stable parallel safe
as $$
    select distinct on (l.transaction_id, l.timestamp)
           l.transaction_id, l.timestamp, l.is_fraud, l.known_at, l.scenario_id, l.source
    from shop.fraud_transactions l
    where l.known_at <= as_of
    order by l.transaction_id, l.timestamp, (l.source is distinct from 'analyst') desc, l.known_at desc
$$;
grant execute on function shop.labels_known(timestamptz) to trainer, app;

create or replace view monitoring.current_labels as
    select l.transaction_id, l.timestamp, l.is_fraud, l.known_at, l.scenario_id, l.source
    from shop.fraud_transactions l
    where l.known_at <= now() and not exists (
        select from shop.fraud_transactions better
        where better.transaction_id = l.transaction_id and better.timestamp = l.timestamp and better.known_at <= now()
          and (better.source is distinct from 'analyst', better.known_at)
            > (l.source is distinct from 'analyst', l.known_at));

-- An analyst's delay says nothing of how long the bank takes.
create or replace function monitoring.labels_settled_until() returns timestamptz
language sql stable parallel safe
as $$
    select case
        when (select avg((l.transaction_id is not null)::integer) >= 0.95
              from (select s.transaction_id, s.timestamp from monitoring.scores s
                    order by s.scored_at desc offset 1000 limit 1000) s
              left join monitoring.current_labels l using (transaction_id, timestamp)) then now()
        else now() - greatest(interval '3 days', (
            select make_interval(secs => percentile_cont(0.9) within group (
                order by extract(epoch from known_at - timestamp)::double precision))
            from monitoring.current_labels where is_fraud and source is distinct from 'analyst'))
        end
$$;
