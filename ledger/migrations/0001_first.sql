-- Two dialects, one text: {by_day} partitions a table on PostgreSQL, {clustered} stores it in its key on SQLite, and
-- {serial} is a number that the database gives, {bytewise} orders texts by their bytes, so that an index finds what begins with
-- something. Tables whose keys are scattered (hashes) aren't clustered: their rows stay
-- in order of arrival, so that what ended together lies together, on a few pages.

-- A group's memory. `failed_at` is set while the state is waiting or dead, `received_at` (microseconds, of the copy that the group
-- handled) in any state but succeeded: each carries a partial index, and what just succeeds pays for neither.
CREATE TABLE outcomes (
    day INTEGER NOT NULL,
    grp TEXT NOT NULL,
    id {bytes} NOT NULL,
    state SMALLINT NOT NULL,
    attempts INTEGER NOT NULL,
    epoch BIGINT NOT NULL,
    generation TEXT NOT NULL,
    topic TEXT NOT NULL,
    updated_at DOUBLE PRECISION NOT NULL,
    first_failed_at DOUBLE PRECISION,
    failed_at DOUBLE PRECISION,
    received_at BIGINT,
    shop TEXT,
    error_type TEXT,
    error_group TEXT,
    error_message TEXT,
    PRIMARY KEY (day, grp, id)
) {by_day};
CREATE INDEX outcomes_failed ON outcomes (grp, failed_at) WHERE failed_at IS NOT NULL;
-- A page of events by status, in the order of pages. What follows the id is for looking at, so that a rare topic, shop or error is
-- found among a hundred thousand failures without reading their rows.
CREATE INDEX outcomes_received ON outcomes (grp, received_at, id, state, topic, shop, error_group) WHERE received_at IS NOT NULL;

-- Workers: who is alive until when, by the clock that they all share.
CREATE TABLE owners (
    grp TEXT NOT NULL,
    owner TEXT NOT NULL,
    lease DOUBLE PRECISION NOT NULL,
    alive_until DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (grp, owner)
) {clustered};

-- Which of them runs which partitions of its group: the epoch grows with each hand-over.
CREATE TABLE ownership (
    grp TEXT NOT NULL,
    part INTEGER NOT NULL,
    owner TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    PRIMARY KEY (grp, part)
) {clustered};

-- What lies in retry topics. `lane` stands for what must stay in order, `seq` is the event's place in it.
CREATE TABLE waiting (
    grp TEXT NOT NULL,
    part INTEGER NOT NULL,
    day INTEGER NOT NULL,
    id {bytes} NOT NULL,
    lane {bytes},
    seq BIGINT NOT NULL,
    delay DOUBLE PRECISION NOT NULL,
    due DOUBLE PRECISION NOT NULL,
    kafka_topic TEXT NOT NULL,
    kafka_partition INTEGER NOT NULL,
    kafka_offset BIGINT NOT NULL,
    PRIMARY KEY (grp, part, day, id)
) {clustered};
CREATE INDEX waiting_due ON waiting (grp, part, due);

-- The highest version that a handler applied to a resource.
CREATE TABLE applied (
    grp TEXT NOT NULL,
    handler TEXT NOT NULL,
    shop TEXT NOT NULL,
    resource TEXT NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (grp, handler, shop, resource)
) {clustered};

-- What each worker's flood breakers have open, repeated every few seconds; what isn't any more is of no worker that lives.
CREATE TABLE breakers (
    grp TEXT NOT NULL,
    topic TEXT NOT NULL,
    error_group TEXT NOT NULL,
    owner TEXT NOT NULL,
    state TEXT NOT NULL,
    since DOUBLE PRECISION NOT NULL,
    probe_at DOUBLE PRECISION,
    failures INTEGER NOT NULL,
    shops INTEGER NOT NULL,
    error_type TEXT NOT NULL,
    error_message TEXT NOT NULL,
    updated_at DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (grp, topic, error_group, owner)
) {clustered};

-- An operator's word on a topic, which goes before the breakers' own.
CREATE TABLE breaker_overrides (
    grp TEXT NOT NULL,
    topic TEXT NOT NULL,
    state TEXT NOT NULL,
    until_at DOUBLE PRECISION,
    who TEXT NOT NULL,
    reason TEXT NOT NULL,
    at DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (grp, topic)
) {clustered};

-- Offset ranges [from_offset, to_offset) that an offset reset wants run again.
CREATE TABLE reprocess (
    grp TEXT NOT NULL,
    id TEXT NOT NULL,
    kafka_topic TEXT NOT NULL,
    kafka_partition INTEGER NOT NULL,
    from_offset BIGINT NOT NULL,
    to_offset BIGINT NOT NULL,
    PRIMARY KEY (grp, id, kafka_topic, kafka_partition)
) {clustered};

-- Offset resets: `offsets` is JSON, the old and the new one of each partition that was moved.
CREATE TABLE resets (
    id TEXT PRIMARY KEY,
    grp TEXT NOT NULL,
    at DOUBLE PRECISION NOT NULL,
    who TEXT NOT NULL,
    reason TEXT NOT NULL,
    reprocess SMALLINT NOT NULL,
    offsets TEXT NOT NULL,
    undoes TEXT NOT NULL,
    state TEXT NOT NULL
) {clustered};
CREATE INDEX resets_group ON resets (grp, id);

-- Where on the tape an event lies.
CREATE TABLE events (
    day INTEGER NOT NULL,
    id {bytes} NOT NULL,
    shop TEXT NOT NULL,
    topic TEXT NOT NULL,
    webhook_id TEXT{bytewise} NOT NULL,
    resource TEXT,
    root TEXT,
    version BIGINT,
    triggered_at BIGINT,
    received_at BIGINT NOT NULL,
    source TEXT NOT NULL,
    proof TEXT NOT NULL,
    kafka_topic TEXT NOT NULL,
    kafka_partition INTEGER NOT NULL,
    kafka_offset BIGINT NOT NULL,
    size INTEGER NOT NULL,
    copies INTEGER NOT NULL,
    PRIMARY KEY (day, id)
) {by_day};
-- What grows with time stays at the end of its index; what is scattered (ids, resources) is led by the day. Where a page is read
-- from an index, that ends in the page's order, so that nothing is sorted.
CREATE INDEX events_received ON events (received_at, id);
CREATE INDEX events_triggered ON events (COALESCE(triggered_at, received_at), id);
CREATE INDEX events_shop ON events (shop, received_at, id);
CREATE INDEX events_shop_topic ON events (shop, topic, received_at, id);
CREATE INDEX events_topic ON events (topic, received_at, id);
CREATE INDEX events_webhook ON events (day, webhook_id);
-- Most resources are their own root, and need no second entry.
CREATE INDEX events_resource ON events (day, resource) WHERE resource <> COALESCE(root, '');
CREATE INDEX events_root ON events (day, root);
CREATE INDEX events_place ON events (kafka_topic, kafka_partition, kafka_offset);

-- What a person calls a resource (`#1005`), as keyed hashes, by the day of the events that bore the name. Clustered, scattered as it
-- is: nothing reads it in order of arrival, and a table beside its index would be written twice.
CREATE TABLE lookups (
    day INTEGER NOT NULL,
    hash BIGINT NOT NULL,
    shop TEXT NOT NULL,
    resource TEXT NOT NULL,
    PRIMARY KEY (day, hash, shop, resource)
) {by_day}{clustered};
CREATE TABLE lookup_key (one SMALLINT PRIMARY KEY, secret {bytes} NOT NULL) {clustered};

-- The days and topics that `events` holds: short lists that searches expand into index look-ups.
CREATE TABLE event_days (day INTEGER PRIMARY KEY);
CREATE TABLE event_topics (topic TEXT PRIMARY KEY) {clustered};

-- The records of the groups' dead-letter topics, without their bodies: one row a record, so that reading a topic again gives
-- the same rows. Of an event's letters the last (by `died_at`) counts. A record that holds no event (poison) has no `id`, and only
-- such a one is discarded here: an event is in `outcomes`.
CREATE TABLE letters (
    kafka_topic TEXT NOT NULL,
    kafka_partition INTEGER NOT NULL,
    kafka_offset BIGINT NOT NULL,
    grp TEXT NOT NULL,
    died_at DOUBLE PRECISION NOT NULL,
    size INTEGER NOT NULL,
    origin_topic TEXT NOT NULL,
    origin_partition INTEGER NOT NULL,
    origin_offset BIGINT NOT NULL,
    attempts INTEGER NOT NULL,
    redrives INTEGER NOT NULL,
    disposition TEXT NOT NULL,
    error_type TEXT NOT NULL,
    error_group TEXT NOT NULL,
    error_message TEXT NOT NULL,
    first_failed_at DOUBLE PRECISION NOT NULL,
    job_id TEXT NOT NULL,
    day INTEGER,
    id {bytes},
    shop TEXT,
    topic TEXT,
    webhook_id TEXT,
    resource TEXT,
    root TEXT,
    version BIGINT,
    triggered_at BIGINT,
    received_at BIGINT,
    source TEXT,
    discarded_at DOUBLE PRECISION,
    PRIMARY KEY (kafka_topic, kafka_partition, kafka_offset)
) {clustered};
CREATE INDEX letters_event ON letters (grp, id, died_at);
-- Eight characters are what a person has to type of an id.
CREATE INDEX letters_webhook ON letters (grp, substr(webhook_id, 1, 8));

CREATE TABLE positions (
    kafka_topic TEXT NOT NULL,
    kafka_partition INTEGER NOT NULL,
    next_offset BIGINT NOT NULL,
    PRIMARY KEY (kafka_topic, kafka_partition)
) {clustered};

-- Replays. `number` stands for the job in its items: millions of rows that needn't repeat a text. `limits` is JSON. `published_seq` is the
-- last item known to be on Kafka, `sent` how many that are; `alive_until` is when whoever runs it will be taken for dead.
CREATE TABLE jobs (
    number {serial},
    id TEXT NOT NULL UNIQUE,
    grp TEXT NOT NULL,
    kind TEXT NOT NULL,
    selection TEXT NOT NULL,
    reason TEXT NOT NULL,
    who TEXT NOT NULL,
    forced SMALLINT NOT NULL,
    again SMALLINT NOT NULL,
    limits TEXT NOT NULL,
    first INTEGER,
    state TEXT NOT NULL,
    created_at DOUBLE PRECISION NOT NULL,
    started_at DOUBLE PRECISION,
    ended_at DOUBLE PRECISION,
    alive_until DOUBLE PRECISION NOT NULL,
    selected INTEGER NOT NULL,
    published_seq BIGINT NOT NULL,
    sent INTEGER NOT NULL,
    note TEXT NOT NULL
);
CREATE INDEX jobs_created ON jobs (created_at);

-- A job's events, in the order of publishing. What an event is, the catalogue tells.
CREATE TABLE replay_items (
    job INTEGER NOT NULL,
    seq BIGINT NOT NULL,
    day INTEGER NOT NULL,
    id {bytes} NOT NULL,
    kafka_topic TEXT NOT NULL,
    kafka_partition INTEGER NOT NULL,
    kafka_offset BIGINT NOT NULL,
    size INTEGER NOT NULL,
    proven SMALLINT NOT NULL,
    redrives INTEGER NOT NULL,
    decision TEXT NOT NULL,
    outcome TEXT,
    error TEXT,
    PRIMARY KEY (job, seq)
) {clustered};
-- Records bear their `seq`, and by it they are settled. An event's item is found by its place on Kafka, which grows as a plan is written:
-- an index of ids, scattered as they are, took as long as all the rest of the row.
CREATE INDEX replay_items_place ON replay_items (job, kafka_partition, kafka_offset);
-- A running job is counted by what is open and by what ended in any way but the usual one: both are few beside its items. The index
-- names what its rows have in common, too, or SQLite passes it by and walks along the whole job; the id is for looking at.
CREATE INDEX replay_items_open ON replay_items (job, decision, outcome, seq, id) WHERE outcome IS NULL AND decision = 'run';
CREATE INDEX replay_items_odd ON replay_items (job, outcome, seq) WHERE outcome IS NOT NULL AND outcome <> 'succeeded';

-- What the plan decided, counted once: the account of millions of events must not begin by counting them.
CREATE TABLE replay_totals (
    job INTEGER NOT NULL,
    decision TEXT NOT NULL,
    topic TEXT NOT NULL,
    shop TEXT NOT NULL,
    events INTEGER NOT NULL,
    PRIMARY KEY (job, decision, topic, shop)
) {clustered};

-- The handlers of each group, as its workers told when they started. `topics` is JSON.
CREATE TABLE handlers (
    grp TEXT NOT NULL,
    name TEXT NOT NULL,
    topics TEXT NOT NULL,
    ordered SMALLINT NOT NULL,
    replay SMALLINT NOT NULL,
    told_at DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (grp, name)
) {clustered};

CREATE TABLE leases (
    name TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    expires_at DOUBLE PRECISION NOT NULL
) {clustered};

-- Token buckets that all processes share, one for each scope (a shop's Admin API): `level` tokens at the instant `at`.
CREATE TABLE budgets (
    scope TEXT PRIMARY KEY,
    level DOUBLE PRECISION NOT NULL,
    at DOUBLE PRECISION NOT NULL,
    size DOUBLE PRECISION NOT NULL,
    rate DOUBLE PRECISION NOT NULL
) {clustered};

-- What a group's handlers mustn't start before `until`: of one shop, or where `shop` is empty, anything.
CREATE TABLE cooling (
    grp TEXT NOT NULL,
    handler TEXT NOT NULL,
    shop TEXT NOT NULL,
    until DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (grp, handler, shop)
) {clustered};

-- The reconciler. `high_water`, `marks` and `report` are JSON: opaque here.
CREATE TABLE reconcile_cursors (
    shop TEXT NOT NULL,
    family TEXT NOT NULL,
    coverage_from BIGINT,
    position BIGINT,
    steps_from BIGINT,
    last_success DOUBLE PRECISION,
    PRIMARY KEY (shop, family)
) {clustered};

CREATE TABLE reconcile_pending (
    shop TEXT NOT NULL,
    family TEXT NOT NULL,
    resource TEXT NOT NULL,
    version BIGINT,
    kind TEXT NOT NULL,
    topic TEXT NOT NULL,
    first_seen DOUBLE PRECISION NOT NULL,
    high_water TEXT NOT NULL,
    nulled_at DOUBLE PRECISION,
    held INTEGER NOT NULL DEFAULT 0,
    gid TEXT NOT NULL DEFAULT '',
    digest TEXT NOT NULL DEFAULT '',
    steps TEXT NOT NULL DEFAULT '[]',
    PRIMARY KEY (shop, family, resource)
) {clustered};

CREATE TABLE reconcile_intents (
    shop TEXT NOT NULL,
    family TEXT NOT NULL,
    id TEXT NOT NULL,
    resource TEXT NOT NULL,
    version BIGINT NOT NULL,
    state TEXT NOT NULL,
    marks TEXT NOT NULL,
    updated_at DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (shop, family, id)
) {clustered};

-- When which pass over a shop is next due, and the shops whose API is closed.
CREATE TABLE reconcile_due (
    shop TEXT NOT NULL,
    pass TEXT NOT NULL,
    due DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (shop, pass)
) {clustered};

CREATE TABLE reconcile_parked (
    shop TEXT PRIMARY KEY,
    reason TEXT NOT NULL,
    since DOUBLE PRECISION NOT NULL,
    probe_at DOUBLE PRECISION NOT NULL
) {clustered};

CREATE TABLE reconcile_bulk (
    shop TEXT NOT NULL,
    family TEXT NOT NULL,
    search TEXT NOT NULL,
    gid TEXT,
    window_start BIGINT,
    window_end BIGINT,
    begun DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (shop, family, search)
) {clustered};

CREATE TABLE reconcile_reports (
    seq {serial},
    ended_at DOUBLE PRECISION NOT NULL,
    shop TEXT NOT NULL,
    family TEXT NOT NULL,
    pass TEXT NOT NULL,
    came BIGINT NOT NULL,
    lacked BIGINT NOT NULL,
    report TEXT NOT NULL
);
CREATE INDEX reconcile_reports_shop ON reconcile_reports (shop, family, pass, seq);
CREATE INDEX reconcile_reports_ended ON reconcile_reports (ended_at);

-- The doctor. What it finds, since when; a finding that is gone has no row.
CREATE TABLE doctor_findings (
    shop TEXT NOT NULL,
    problem TEXT NOT NULL,
    subject TEXT NOT NULL,
    severity TEXT NOT NULL,
    what TEXT NOT NULL,
    remedy TEXT NOT NULL,
    first_seen DOUBLE PRECISION NOT NULL,
    last_seen DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (shop, problem, subject)
) {clustered};
CREATE TABLE doctor_looks (shop TEXT PRIMARY KEY, looked_at DOUBLE PRECISION NOT NULL) {clustered};

-- What it heard on the tape: of each topic the newest webhook, and the synthetic events since; how far it has read, and the outages of
-- ingest that records tell of. `lacks`, `marks` and `outages` are JSON. `seq` grows with each reading: of two at once one counts.
CREATE TABLE doctor_heard (
    shop TEXT NOT NULL,
    topic TEXT NOT NULL,
    triggered_at BIGINT NOT NULL,
    version TEXT NOT NULL,
    lacks TEXT NOT NULL,
    recorded INTEGER NOT NULL,
    recorded_at BIGINT NOT NULL,
    PRIMARY KEY (shop, topic)
) {clustered};
CREATE TABLE doctor_tape (
    one SMALLINT PRIMARY KEY,
    seq BIGINT NOT NULL,
    marks TEXT NOT NULL,
    outages TEXT NOT NULL
) {clustered};

CREATE TABLE audit (
    seq {serial},
    at DOUBLE PRECISION NOT NULL,
    who TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL
);
CREATE INDEX audit_target ON audit (target);

-- Tokens of the HTTP API: their SHA-256 alone. Of a name, one at a time is in force.
CREATE TABLE tokens (
    digest TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    created_at DOUBLE PRECISION NOT NULL,
    created_by TEXT NOT NULL,
    used_at DOUBLE PRECISION,
    revoked_at DOUBLE PRECISION
);
CREATE UNIQUE INDEX tokens_name ON tokens (name) WHERE revoked_at IS NULL;
