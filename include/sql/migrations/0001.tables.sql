-- The tables: schema shop has the transactions and what became of them. Schema monitoring has views of them.
--
-- Time-ranged tables are partitioned by month of the event. PostgreSQL cannot keep an id unique across
-- partitions, so transaction_ids and scored_ids do.

create schema shop;
create schema monitoring;

-- What is made is closed until it is granted: tables are so by themselves, functions are not.
revoke all on schema public from public;
alter default privileges revoke execute on functions from public;


-- What was stored ------------------------------------------------------------------------------------------------

create table shop.transactions (
    transaction_id       text collate "C" not null,
    user_id              text collate "C" not null,
    timestamp            timestamptz not null check (isfinite(timestamp)),
    first_name           text,
    last_name            text,
    full_name            text,
    email                text,
    location             text,
    transaction_location text,
    amount               numeric(12, 2) not null check (amount >= 0 and amount <> 'NaN'),
    device               text,
    merchant_id          text collate "C",
    merchant_category    text,
    currency             text,
    latitude             double precision,
    longitude            double precision,
    late                 boolean not null default false,
    topic                text collate "C" not null,
    partition            integer not null,
    "offset"             bigint not null,
    broker_time          timestamptz not null,
    stored_at            timestamptz not null default clock_timestamp()
) partition by range (timestamp);
create table shop.transactions_default partition of shop.transactions default;
create index on shop.transactions (transaction_id);
create index on shop.transactions using brin (timestamp);
create index on shop.transactions (user_id, timestamp);
create index on shop.transactions using brin (stored_at);  -- finds the newest rows without reading a whole month

-- Which event owns an id: the first that was stored. The fingerprint tells an identical duplicate from a conflict.
create table shop.transaction_ids (
    transaction_id text collate "C" primary key,
    fingerprint    bigint not null,
    timestamp      timestamptz not null
);
create index on shop.transaction_ids using brin (timestamp);

-- Ground truth. A corrected label is a new row with a later known_at.
create table shop.fraud_transactions (
    transaction_id text collate "C" not null,
    timestamp      timestamptz not null,
    is_fraud       boolean not null,
    known_at       timestamptz not null,
    scenario_id    text,
    primary key (transaction_id, known_at)
);
create index on shop.fraud_transactions using brin (known_at);

-- The labels as they were known at a time: for each transaction the latest one.
create function shop.labels_known(as_of timestamptz)
returns table (transaction_id text, "timestamp" timestamptz, is_fraud boolean, known_at timestamptz, scenario_id text)
language sql stable parallel safe
as $$
    select distinct on (l.transaction_id) l.transaction_id, l.timestamp, l.is_fraud, l.known_at, l.scenario_id
    from shop.fraud_transactions l
    where l.known_at <= as_of
    order by l.transaction_id, l.known_at desc
$$;

-- A topic that was deleted and created again uses its offsets a second time: topic_id tells them apart.
create table shop.dead_letters (
    reason      text not null,
    detail      text not null,
    topic       text collate "C" not null,
    partition   integer not null,
    "offset"    bigint not null,
    key         bytea,
    value       bytea,
    at          timestamptz not null default clock_timestamp(),
    replayed_at timestamptz,
    topic_id    text not null default '',
    primary key (topic, partition, "offset", topic_id)
);
create index on shop.dead_letters (at);


-- What was scored ------------------------------------------------------------------------------------------------

-- features is the vector that was scored, in the order of include.features.behaviour.FEATURES.
create table shop.fraud_scores (
    transaction_id text collate "C" not null,
    user_id        text collate "C" not null,
    timestamp      timestamptz not null,
    score          double precision not null check (score between 0 and 1),
    is_alert       boolean not null,
    model_version  integer not null,
    feature_set    smallint not null,
    features       real[] not null,
    topic          text collate "C" not null,
    partition      integer not null,
    "offset"       bigint not null,
    broker_time    timestamptz not null,
    scored_at      timestamptz not null default clock_timestamp()
) partition by range (timestamp);
create table shop.fraud_scores_default partition of shop.fraud_scores default;
create index on shop.fraud_scores (transaction_id);
create index on shop.fraud_scores using brin (timestamp);
create index on shop.fraud_scores (scored_at);

-- Scored once per Kafka partition: partitions never wait for one another, and a score counts only for the
-- event (topic, partition, offset) that shop.transactions holds.
create table shop.scored_ids (
    transaction_id text collate "C" not null,
    partition      integer not null,
    fingerprint    bigint not null,
    timestamp      timestamptz not null,
    primary key (transaction_id, partition)
);
create index on shop.scored_ids using brin (timestamp);

create table shop.fraud_alerts (
    transaction_id text collate "C" not null,
    user_id        text collate "C" not null,
    timestamp      timestamptz not null,
    amount         numeric(12, 2) not null,
    score          double precision not null,
    threshold      double precision not null,
    model_version  integer not null,
    reasons        jsonb not null default '[]',
    topic          text collate "C" not null,
    partition      integer not null,
    "offset"       bigint not null,
    created_at     timestamptz not null default clock_timestamp(),
    primary key (topic, partition, "offset", transaction_id)
);
create index on shop.fraud_alerts (transaction_id);
create index on shop.fraud_alerts (created_at);

-- What an analyst decided about an alert. The last row of a transaction counts.
create table shop.verdicts (
    id             bigint generated always as identity primary key,
    transaction_id text collate "C" not null,
    is_fraud       boolean not null,
    analyst        text not null,
    note           text not null default '',
    at             timestamptz not null default clock_timestamp()
);
create index on shop.verdicts (transaction_id);


-- What the scorer remembers --------------------------------------------------------------------------------------

-- Behaviour state of a user within a Kafka partition (include.features.behaviour.STATE), written with the scores.
-- When partitions are added, a user's state goes on from the newest one.
create table shop.user_state (
    user_id    text collate "C" not null,
    partition  integer not null,
    layout     smallint not null,
    state      bytea not null,
    written_at timestamptz not null default clock_timestamp(),
    primary key (user_id, partition)
) with (fillfactor = 60);
alter table shop.user_state alter column state set storage plain;

-- The same of a merchant (include.features.behaviour.MERCHANT_STATE).
create table shop.merchant_state (
    merchant_id text collate "C" not null,
    partition   integer not null,
    layout      smallint not null,
    state       bytea not null,
    written_at  timestamptz not null default clock_timestamp(),
    primary key (merchant_id, partition)
) with (fillfactor = 60);
alter table shop.merchant_state alter column state set storage plain;

-- The labels as fraud_stream read them, for the features of merchants (docs/decisions/0006-known-labels.md).
-- counts_from: the first UTC day whose payments may know the label; null when it changes nothing.
create table shop.merchant_labels (
    transaction_id text collate "C" not null,
    known_at       timestamptz not null,
    is_fraud       boolean not null,
    merchant_id    text collate "C",
    counts_from    date,
    primary key (transaction_id, known_at)
);

-- The same summed: frauds of a merchant that were reported before the day `reported`, as known from the day
-- `counts_from` on. A correction takes back with a negative number what it corrects.
create table shop.merchant_frauds (
    merchant_id text collate "C" not null,
    reported    date not null,
    counts_from date not null,
    frauds      integer not null,
    primary key (merchant_id, reported, counts_from),
    check (counts_from >= reported)
);


-- The streams' books ---------------------------------------------------------------------------------------------

-- The ledger: per stream and Kafka partition, everything in [first_offset, next_offset) is accounted for.
-- watermark: the newest event time seen in the partition, against which an event is late.
-- lost: offsets that retention deleted before they were read, entered by hand once somebody has accepted the loss.
create table shop.stream_offsets (
    stream         text not null,
    topic          text collate "C" not null,
    partition      integer not null,
    topic_id       text not null,
    first_offset   bigint not null,
    next_offset    bigint not null,
    stored         bigint not null,
    dead_letters   bigint not null,
    duplicates     bigint not null,
    late           bigint not null default 0,
    unknown_fields bigint not null default 0,
    epoch          bigint not null,
    committed_at   timestamptz not null default clock_timestamp(),
    watermark      timestamptz,
    lost           bigint not null default 0 check (lost >= 0),
    primary key (stream, topic, partition),
    constraint books_close check (next_offset - first_offset = stored + dead_letters + duplicates + lost)
) with (fillfactor = 20);

-- Who may write for a stream: only the holder of the newest epoch. Each write transaction locks this row FOR SHARE.
create table shop.stream_leases (
    stream         text primary key,
    epoch          bigint not null default 0,
    holder         text not null default '',
    state          text not null default 'stopped',
    detail         text not null default '',
    model_version  integer,
    stop_requested boolean not null default false,
    heartbeat_at   timestamptz not null default clock_timestamp()
);
-- With this index a new epoch counts as a key update: it waits for writers that hold the lease's row FOR KEY SHARE
-- and makes later ones fail, while the heartbeat's updates and the writers never wait for one another.
create unique index on shop.stream_leases (stream, epoch);
insert into shop.stream_leases (stream) values ('transaction_stream'), ('fraud_stream'), ('producer');

-- Up to which offset the rows of a stream's partition were counted and found to be what the ledger says, with the
-- ledger's sums at that offset.
create table shop.reconciled (
    stream       text not null,
    topic        text collate "C" not null,
    partition    integer not null,
    topic_id     text not null,
    next_offset  bigint not null,
    stored       bigint not null,
    dead_letters bigint not null,
    checked_at   timestamptz not null default now(),
    primary key (stream, topic, partition)
);


-- Models ---------------------------------------------------------------------------------------------------------

-- Model versions that training registered. The scorer loads a version only if its bytes have this hash.
create table shop.models (
    version      integer primary key,
    run_id       text not null,
    sha256       text not null,
    family       text not null,
    threshold    double precision not null,
    feature_set  smallint not null,
    trained_from timestamptz not null,
    trained_to   timestamptz not null,
    metrics      jsonb not null default '{}',
    created_at   timestamptz not null default clock_timestamp()
);

-- What each parity check found (include.operations.parity_check): the features that differ from those logged are
-- in mismatches, as [{"feature", "rows", "largest", "place"}]; largest is null for a value that is not a number.
create table shop.parity_checks (
    id          bigint generated always as identity primary key,
    checked_at  timestamptz not null default now(),
    feature_set smallint not null,
    rows        bigint not null check (rows >= 0),
    merchants   bigint not null check (merchants between 0 and rows),
    left_out    bigint not null check (left_out >= 0),
    share       real not null check (share > 0 and share <= 1),
    seconds     real not null,
    mismatches  jsonb not null default '[]'
);
