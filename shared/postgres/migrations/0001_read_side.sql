-- The read side: a second copy of the log, and rows that are folded from it. Everything here can be made anew from the
-- log of events. Keys and indexes begin with the team wherever there is one: nobody reads across teams.

-- Byte for byte what the log holds, one row per commit, chained by hash: row n cannot change without all that follow.
CREATE TABLE event_archive (
    stream        text        NOT NULL,
    seq           bigint      NOT NULL CHECK (seq > 0),
    commit_id     text        NOT NULL UNIQUE,
    team_id       text        NOT NULL,
    aggregate_id  text        NOT NULL,
    version       bigint      NOT NULL CHECK (version > 0),
    last_version  bigint      NOT NULL CHECK (last_version >= version),
    subject       text        NOT NULL,
    headers       jsonb       NOT NULL,
    body          bytea       NOT NULL,
    sha256        bytea       NOT NULL CHECK (length(sha256) = 32),
    prev_sha256   bytea       NOT NULL CHECK (length(prev_sha256) = 32),
    recorded_at   timestamptz NOT NULL,
    PRIMARY KEY (stream, seq)
);
CREATE UNIQUE INDEX event_archive_history ON event_archive (team_id, aggregate_id, version);

-- How far each projection is; `commit_id` and `stream_created` tell whether the log is still the one it was read from.
CREATE TABLE projection_checkpoints (
    name            text        PRIMARY KEY,
    stream          text        NOT NULL,
    seq             bigint      NOT NULL CHECK (seq >= 0),
    commit_id       text,
    stream_created  timestamptz NOT NULL,
    CHECK ((seq = 0) = (commit_id IS NULL))
);

-- `seq` is the sequence in the log of the commit that changed the row last.
-- Views are json, not jsonb: they are only ever handed out whole, and their fields keep their order.
CREATE TABLE orchestrations (
    team_id       text        NOT NULL,
    id            text        NOT NULL,
    seq           bigint      NOT NULL,
    version       bigint      NOT NULL,
    status        text        NOT NULL,
    name          text,
    repository    text        NOT NULL,
    ref           text        NOT NULL,
    tags          text[]      NOT NULL,
    created_by    text        NOT NULL,
    created_at    timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL,
    completed_at  timestamptz,
    view          json        NOT NULL,
    PRIMARY KEY (team_id, id)
);
CREATE INDEX orchestrations_newest ON orchestrations (team_id, created_at DESC, id DESC);

CREATE TABLE tasks (
    team_id           text     NOT NULL,
    id                text     NOT NULL,
    orchestration_id  text     NOT NULL,
    position          integer  NOT NULL,
    status            text     NOT NULL,
    seq               bigint   NOT NULL,
    view              json     NOT NULL,
    PRIMARY KEY (team_id, id)
);
CREATE INDEX tasks_in_order ON tasks (team_id, orchestration_id, position);

-- One row per attempt that has an agent; the agent's id may change once, when the provider gives its own.
CREATE TABLE agents (
    team_id           text         NOT NULL,
    attempt_id        text         NOT NULL,
    agent_id          text         NOT NULL,
    task_id           text         NOT NULL,
    orchestration_id  text         NOT NULL,
    number            integer      NOT NULL,
    status            text,
    provider_status   text,
    api_version       text,
    run_id            text,
    url               text,
    model             text,
    branch            text,
    started_at        timestamptz,
    ended_at          timestamptz,
    seq               bigint       NOT NULL,
    PRIMARY KEY (team_id, attempt_id)
);
-- Without the team: the provider's messages name the agent alone.
CREATE INDEX agents_by_id ON agents (agent_id, seq DESC);
