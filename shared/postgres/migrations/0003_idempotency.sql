-- What was taken in under an Idempotency-Key, and what was answered. Not derived from the log: it belongs into a backup,
-- and making the read side anew leaves it alone.
CREATE TABLE idempotency (
    team_id      text        NOT NULL,
    key          text        NOT NULL,
    -- SHA-256 over method, path and body: the same key with anything else is refused.
    fingerprint  bytea       NOT NULL CHECK (length(fingerprint) = 32),
    -- What is to be done, with all its ids, stored before anything is done. It is not needed once there is an answer.
    plan         bytea,
    status       smallint,
    body         bytea,
    location     text,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (team_id, key),
    CHECK ((status IS NULL) = (body IS NULL)),
    CHECK (plan IS NOT NULL OR status IS NOT NULL)
);
CREATE INDEX idempotency_oldest ON idempotency (created_at);
