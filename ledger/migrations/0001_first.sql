-- Two dialects, one text: {by_day} partitions a table on PostgreSQL, {clustered} stores it in its key on SQLite, and
-- {serial} is a number that the database gives. Tables whose keys are scattered (hashes) aren't clustered: their rows stay
-- in order of arrival, so that what ended together lies together, on a few pages.

-- A group's memory. `failed_at` is set while the state is waiting or dead: it carries the partial index.
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
    shop TEXT,
    error_type TEXT,
    error_group TEXT,
    error_message TEXT,
    PRIMARY KEY (day, grp, id)
) {by_day};
CREATE INDEX outcomes_failed ON outcomes (grp, failed_at) WHERE failed_at IS NOT NULL;

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

-- Where on the tape an event lies.
CREATE TABLE events (
    day INTEGER NOT NULL,
    id {bytes} NOT NULL,
    shop TEXT NOT NULL,
    topic TEXT NOT NULL,
    webhook_id TEXT NOT NULL,
    resource TEXT,
    root TEXT,
    version BIGINT,
    triggered_at BIGINT,
    received_at BIGINT NOT NULL,
    source TEXT NOT NULL,
    kafka_topic TEXT NOT NULL,
    kafka_partition INTEGER NOT NULL,
    kafka_offset BIGINT NOT NULL,
    size INTEGER NOT NULL,
    copies INTEGER NOT NULL,
    PRIMARY KEY (day, id)
) {by_day};
-- What grows with time stays at the end of its index; what is scattered (ids, resources) is led by the day.
CREATE INDEX events_received ON events (received_at, id);
CREATE INDEX events_triggered ON events (COALESCE(triggered_at, received_at));
CREATE INDEX events_shop ON events (shop, received_at, id);
CREATE INDEX events_topic ON events (topic, received_at, id);
CREATE INDEX events_webhook ON events (day, webhook_id);
CREATE INDEX events_resource ON events (day, resource);
CREATE INDEX events_root ON events (day, root);
CREATE INDEX events_place ON events (kafka_topic, kafka_partition, kafka_offset);

-- The days and topics that `events` holds: short lists that searches expand into index look-ups.
CREATE TABLE event_days (day INTEGER PRIMARY KEY);
CREATE TABLE event_topics (topic TEXT PRIMARY KEY) {clustered};

CREATE TABLE positions (
    kafka_topic TEXT NOT NULL,
    kafka_partition INTEGER NOT NULL,
    next_offset BIGINT NOT NULL,
    PRIMARY KEY (kafka_topic, kafka_partition)
) {clustered};

CREATE TABLE jobs (
    id TEXT PRIMARY KEY,
    grp TEXT NOT NULL,
    kind TEXT NOT NULL,
    selection TEXT NOT NULL,
    reason TEXT NOT NULL,
    who TEXT NOT NULL,
    forced SMALLINT NOT NULL,
    rate DOUBLE PRECISION,
    state TEXT NOT NULL,
    created_at DOUBLE PRECISION NOT NULL,
    started_at DOUBLE PRECISION,
    ended_at DOUBLE PRECISION,
    selected INTEGER NOT NULL,
    published_seq INTEGER NOT NULL,
    note TEXT NOT NULL
) {clustered};

CREATE TABLE replay_items (
    job_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    day INTEGER NOT NULL,
    id {bytes} NOT NULL,
    kafka_topic TEXT NOT NULL,
    kafka_partition INTEGER NOT NULL,
    kafka_offset BIGINT NOT NULL,
    topic TEXT NOT NULL,
    shop TEXT NOT NULL,
    resource TEXT NOT NULL,
    decision TEXT NOT NULL,
    outcome TEXT,
    error TEXT,
    PRIMARY KEY (job_id, seq)
) {clustered};
CREATE INDEX replay_items_event ON replay_items (job_id, day, id);

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

-- The reconciler. `high_water` and `report` are JSON: opaque here.
CREATE TABLE reconcile_cursors (
    shop TEXT NOT NULL,
    family TEXT NOT NULL,
    coverage_from BIGINT,
    position BIGINT,
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
    PRIMARY KEY (shop, family, resource)
) {clustered};

CREATE TABLE reconcile_intents (
    id TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    updated_at DOUBLE PRECISION NOT NULL
) {clustered};

CREATE TABLE reconcile_reports (
    seq {serial},
    ended_at DOUBLE PRECISION NOT NULL,
    shop TEXT NOT NULL,
    family TEXT NOT NULL,
    report TEXT NOT NULL
);
CREATE INDEX reconcile_reports_shop ON reconcile_reports (shop, family, seq);

CREATE TABLE audit (
    seq {serial},
    at DOUBLE PRECISION NOT NULL,
    who TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL
);

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
