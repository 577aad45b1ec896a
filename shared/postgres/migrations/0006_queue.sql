-- The tasks that are under way or wait for something, by what they wait for: few of all.
CREATE INDEX tasks_queue ON tasks (team_id, status, (view ->> 'waiting_for'), (view ->> 'priority'))
    WHERE status IN ('PENDING', 'PROCESSING');
