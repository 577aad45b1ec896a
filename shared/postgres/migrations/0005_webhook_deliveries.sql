-- What became of every notification. Written by the notifier, not derived from the log: tries are facts of their own.

CREATE TABLE webhook_deliveries (
    team_id           text         NOT NULL,
    id                text         NOT NULL,
    orchestration_id  text         NOT NULL,
    channel           text         NOT NULL,
    event             text         NOT NULL,
    host              text         NOT NULL,
    status            text         NOT NULL CHECK (status IN ('PENDING', 'DELIVERED', 'FAILED')),
    tries             integer      NOT NULL DEFAULT 0,
    redeliveries      integer      NOT NULL DEFAULT 0,
    occurred_at       timestamptz  NOT NULL,
    updated_at        timestamptz  NOT NULL,
    next_try_at       timestamptz,
    error             text,
    -- The message of the queue, by which it is sent once more on demand.
    message           bytea        NOT NULL,
    PRIMARY KEY (team_id, id)
);
CREATE INDEX webhook_deliveries_newest ON webhook_deliveries (team_id, occurred_at DESC, id DESC);
CREATE INDEX webhook_deliveries_of ON webhook_deliveries (team_id, orchestration_id, occurred_at DESC, id DESC);
CREATE INDEX webhook_deliveries_in ON webhook_deliveries (team_id, status, occurred_at DESC, id DESC);

-- One row per try, made before it is sent: a try without an outcome is one whose process died, or lost the database.
CREATE TABLE webhook_tries (
    team_id      text         NOT NULL,
    delivery_id  text         NOT NULL,
    number       integer      NOT NULL,
    started_at   timestamptz  NOT NULL,
    duration_ms  integer,
    outcome      text,
    detail       text,
    PRIMARY KEY (team_id, delivery_id, number),
    FOREIGN KEY (team_id, delivery_id) REFERENCES webhook_deliveries (team_id, id) ON DELETE CASCADE
);
