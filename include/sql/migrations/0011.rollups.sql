-- Sums for dashboards (include.operations.rollups): a dashboard adds cells instead of reading transactions. Up to a
-- position in each partition transactions are in the cells; the views add those after it, read from the tables, so that
-- they are complete at every moment.

-- Where the cells end: (generation, next_offset) of a partition. What lies behind was stored and scored at these times or
-- later, which finds it without reading the whole tables.
create table shop.rolled_up (
    topic        text collate "C" not null,
    partition    integer not null,
    generation   integer not null,
    next_offset  bigint not null,
    stored_since timestamptz not null,
    scored_since timestamptz not null,
    primary key (topic, partition)
);

-- One row: when the cells were last brought up to date, and after which time a transaction without a label counts as
-- not fraud (monitoring.labels_settled_until).
create table shop.rollup_state (
    only_row     boolean primary key default true check (only_row),
    refreshed_at timestamptz not null,
    settle_after interval not null
);

-- Transactions by the time of the event. grain: seconds of a cell (60, 3600 or 86400; minutes are kept for two days);
-- model_version 0: never scored. Amounts in hundredths of the currency.
create table shop.activity (
    grain         integer not null,
    at            timestamptz not null,
    country       text collate "C" not null,
    category      text collate "C" not null,
    currency      text collate "C" not null,
    model_version integer not null,
    transactions  bigint not null,
    alerts        bigint not null,
    late          bigint not null,
    cents         bigint not null,
    primary key (grain, at, country, category, currency, model_version)
);

-- Scores by the time of the event, in bins of 0.02: bin 0 begins at 0.
create table shop.score_counts (
    grain         integer not null,
    at            timestamptz not null,
    model_version integer not null,
    bin           smallint not null,
    transactions  bigint not null,
    alerts        bigint not null,
    primary key (grain, at, model_version, bin)
);

-- Scores by the time of scoring. bin: the time from the broker to the score lies between 1.1 ^ (bin - 1) and 1.1 ^ bin
-- milliseconds.
create table shop.delay_counts (
    grain         integer not null,
    at            timestamptz not null,
    model_version integer not null,
    bin           smallint not null,
    transactions  bigint not null,
    alerts        bigint not null,
    primary key (grain, at, model_version, bin)
);

-- The few events that raised an alert or are known as fraud, one row each.
create table shop.flagged (
    topic          text collate "C" not null,
    partition      integer not null,
    generation     integer not null,
    "offset"       bigint not null,
    transaction_id text collate "C" not null,
    timestamp      timestamptz not null,
    amount         numeric(12, 2) not null,
    country        text collate "C" not null,
    category       text collate "C" not null,
    currency       text collate "C" not null,
    device         text collate "C" not null,
    merchant_id    text collate "C" not null,
    score          double precision,
    is_alert       boolean not null,
    model_version  integer not null,
    is_fraud       boolean,
    known_at       timestamptz,
    scenario_id    text,
    primary key (topic, partition, generation, "offset")
);
create index on shop.flagged (timestamp);

-- Reports of fraud without reading the labels of everything else.
create index on shop.fraud_transactions (transaction_id, timestamp) where is_fraud;

-- Where browsers reach the pages, for links in dashboards; written at each start.
create table shop.pages (
    page    text primary key,
    address text not null
);

-- Stored transactions after the position of the cells, with their scores. A country is what follows the last comma of
-- the place of payment.
create view monitoring.not_rolled_up as
    select t.transaction_id, t.timestamp, t.topic, t.partition, t.generation, t."offset", t.stored_at, t.amount,
           coalesce(nullif(btrim(regexp_replace(t.transaction_location, '^.*,', '')), ''), 'not given') as country,
           coalesce(nullif(t.merchant_category, ''), 'not given') as category, coalesce(t.currency, '') as currency,
           coalesce(nullif(t.device, ''), 'not given') as device, coalesce(t.merchant_id, 'not given') as merchant_id,
           t.late, s.score, coalesce(s.is_alert, false) as is_alert, coalesce(s.model_version, 0) as model_version,
           s.scored_at,
           greatest(-100, ceil(ln(greatest(extract(epoch from s.scored_at - s.broker_time) * 1000, 0.001)::double precision)
                              / ln(1.1::double precision)))::smallint as delay_bin,
           least(floor(s.score * 50), 49)::smallint as score_bin
    from shop.transactions t
    left join shop.rolled_up r using (topic, partition)
    left join shop.fraud_scores s
        on s.transaction_id = t.transaction_id and s.timestamp = t.timestamp and s.topic = t.topic
        and s.partition = t.partition and s."offset" = t."offset" and s.generation = t.generation
        and s.scored_at >= (select coalesce(min(scored_since), '-infinity') from shop.rolled_up)
    where t.stored_at >= (select coalesce(min(stored_since), '-infinity') from shop.rolled_up)
      and (r.topic is null or (t.generation, t."offset") >= (r.generation, r.next_offset));


-- What dashboards read -------------------------------------------------------------------------------------------

-- The grain of a time range: minutes up to a day that began less than two days ago, hours up to 40 days, else days.
create function monitoring.grain(since timestamptz, until timestamptz) returns integer
language sql stable parallel safe
return case when until - since <= interval '25 hours' and since >= now() - interval '2 days' then 60
            when until - since <= interval '41 days' then 3600
            else 86400 end;

-- The beginning of the cell in which a time range begins: a dashboard shows whole cells.
create function monitoring.first_cell(since timestamptz, until timestamptz) returns timestamptz
language sql stable parallel safe
return date_bin(make_interval(secs => monitoring.grain(since, until)), since, timestamptz '2000-01-01 00:00Z');

create view monitoring.settled as
    select case when s.settle_after is null then monitoring.labels_settled_until() else now() - s.settle_after end as until,
           s.refreshed_at
    from (values (true)) one (only_row) left join shop.rollup_state s using (only_row);

create view monitoring.activity as
    select grain, at, country, category, currency, model_version, transactions, alerts, late, cents from shop.activity
    union all
    select grain, date_bin(make_interval(secs => grain), timestamp, timestamptz '2000-01-01 00:00Z'), country, category,
           currency, model_version, 1, is_alert::integer, late::integer, (amount * 100)::bigint
    from (values (60), (3600), (86400)) grains (grain) cross join monitoring.not_rolled_up;

create view monitoring.score_counts as
    select grain, at, model_version, bin, transactions, alerts from shop.score_counts
    union all
    select grain, date_bin(make_interval(secs => grain), timestamp, timestamptz '2000-01-01 00:00Z'), model_version,
           score_bin, 1, is_alert::integer
    from (values (60), (3600), (86400)) grains (grain) cross join monitoring.not_rolled_up
    where score is not null;

create view monitoring.delay_counts as
    select grain, at, model_version, bin, transactions, alerts from shop.delay_counts
    union all
    select grain, date_bin(make_interval(secs => grain), scored_at, timestamptz '2000-01-01 00:00Z'), model_version,
           delay_bin, 1, is_alert::integer
    from (values (60), (3600), (86400)) grains (grain) cross join monitoring.not_rolled_up
    where score is not null;

-- is_fraud: as known at the last refresh; null: not reported.
create view monitoring.flagged as
    select transaction_id, timestamp, amount, country, category, currency, device, merchant_id, score, is_alert,
           model_version, is_fraud, known_at, scenario_id
    from shop.flagged
    union all
    select n.transaction_id, n.timestamp, n.amount, n.country, n.category, n.currency, n.device, n.merchant_id, n.score,
           true, n.model_version, l.is_fraud, l.known_at, l.scenario_id
    from monitoring.not_rolled_up n left join monitoring.current_labels l using (transaction_id, timestamp)
    where n.is_alert;

create view monitoring.pages as select page, address from shop.pages;

grant select on monitoring.settled, monitoring.activity, monitoring.score_counts, monitoring.delay_counts,
    monitoring.flagged, monitoring.pages to grafana, app;
grant execute on function monitoring.grain(timestamptz, timestamptz), monitoring.first_cell(timestamptz, timestamptz)
    to grafana, app;
