-- What the sweep for orphaned agents looks up, over all teams: the account at the provider is one for all.

-- Attempts whose agent was never told to us: its branch is the only trace.
CREATE INDEX agents_unmet ON agents (branch) WHERE provider_status IS NULL;
-- Few of all.
CREATE INDEX orchestrations_live ON orchestrations (team_id, id) WHERE status IN ('ACTIVE', 'PAUSED', 'CANCELLING');
