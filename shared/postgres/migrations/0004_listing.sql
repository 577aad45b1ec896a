-- What lists, searches and sums of costs are read from. While indexes are made, the one writer of the table, the
-- projector, waits and tries again; reads go on.

-- Terms `<kind>:<value>` in the order of lists: s status, r repository, c created by, t tag, w word. With them a list
-- by any one property is read in its order from one range, however many rows have it or have it not; an index that
-- gives its matches in no order (GIN) would have to read and sort them all.
-- "C": the beginning of a word must be one range.
CREATE TABLE orchestration_terms (
    team_id     text         NOT NULL,
    term        text         NOT NULL COLLATE "C",
    created_at  timestamptz  NOT NULL,
    id          text         NOT NULL,
    PRIMARY KEY (team_id, term, created_at, id)
);

-- The last change moves with every commit, so the few properties that are wanted by it have indexes of their own.
CREATE INDEX orchestrations_updated ON orchestrations (team_id, updated_at, id);
CREATE INDEX orchestrations_status_updated ON orchestrations (team_id, status, updated_at, id);
CREATE INDEX orchestrations_repository_updated ON orchestrations (team_id, repository, updated_at, id);
CREATE INDEX orchestrations_author_updated ON orchestrations (team_id, created_by, updated_at, id);

-- What each ended attempt cost, in dollars. Narrow, to be summed; kept when its orchestration is deleted, for the money
-- is spent.
CREATE TABLE attempt_costs (
    team_id           text           NOT NULL,
    attempt_id        text           NOT NULL,
    task_id           text           NOT NULL,
    orchestration_id  text           NOT NULL,
    repository        text           NOT NULL,
    model             text,
    ended_at          timestamptz    NOT NULL,
    failed            boolean        NOT NULL,
    duration_ms       bigint         NOT NULL,
    cost              numeric(14,6)  NOT NULL,
    seq               bigint         NOT NULL,
    PRIMARY KEY (team_id, attempt_id)
);
CREATE INDEX attempt_costs_in_time ON attempt_costs (team_id, ended_at)
    INCLUDE (cost, failed, duration_ms, repository, model);
CREATE INDEX attempt_costs_by_orchestration ON attempt_costs (team_id, orchestration_id)
    INCLUDE (cost, failed, duration_ms, ended_at);

-- What attempts have cost already, from what their tasks show.
INSERT INTO attempt_costs (team_id, attempt_id, task_id, orchestration_id, repository, model, ended_at, failed,
                           duration_ms, cost, seq)
SELECT a.team_id, a.attempt_id, a.task_id, a.orchestration_id, o.repository, a.model, a.ended_at,
       attempt->>'error_code' IS NOT NULL, coalesce((attempt->>'duration')::bigint, 0), (attempt->>'cost')::numeric,
       a.seq
FROM agents AS a
JOIN orchestrations AS o ON o.team_id = a.team_id AND o.id = a.orchestration_id
JOIN tasks AS t ON t.team_id = a.team_id AND t.id = a.task_id
CROSS JOIN json_array_elements(t.view->'attempts') AS attempt
WHERE attempt->>'id' = a.attempt_id AND a.ended_at IS NOT NULL;

-- The words of name, description and task titles between single blanks, a line for each text. Last, for this locks out
-- everybody until the end of the transaction; old rows are filled in another one.
ALTER TABLE orchestrations ADD COLUMN words text NOT NULL DEFAULT '';
