-- Who may ask, and how much. These tables are the originals: nothing of them is in the log of events.

-- Of a key only the SHA-256 is kept: it has 256 random bits, so nobody can guess what was hashed.
-- The id stands first here: a request shows a key, and the team is what the key says.
CREATE TABLE api_keys (
    id             text         PRIMARY KEY CHECK (id ~ '^[a-z0-9]{8}$'),
    sha256         bytea        NOT NULL CHECK (length(sha256) = 32),
    team_id        text         NOT NULL,
    name           text         NOT NULL,
    permissions    text[]       NOT NULL CHECK (cardinality(permissions) > 0),
    operator       boolean      NOT NULL DEFAULT false,
    expires_at     timestamptz,
    created_at     timestamptz  NOT NULL DEFAULT now(),
    created_by     text         NOT NULL,
    revoked_at     timestamptz,
    revoked_by     text,
    last_used_at   timestamptz,
    CHECK ((revoked_at IS NULL) = (revoked_by IS NULL))
);
CREATE INDEX api_keys_newest ON api_keys (team_id, created_at DESC, id DESC);
-- There is one key that nobody made, the first: two replicas that start at once cannot both print one.
CREATE UNIQUE INDEX api_keys_first ON api_keys (operator) WHERE operator;

-- How much of its current window each key was granted, over all replicas. Not logged: a crash forgets a minute's count.
CREATE UNLOGGED TABLE request_windows (
    key_id   text         PRIMARY KEY,
    ends_at  timestamptz  NOT NULL,
    granted  integer      NOT NULL CHECK (granted >= 0),
    latest   integer      NOT NULL CHECK (latest >= 0)
);
