"""How the current version shows agents, runs and usage."""

from uuid import NAMESPACE_URL, uuid5

from deploy.local.simulator.agents import Agent, Run
from deploy.local.simulator.content import Usage, usage_of, without_scheme
from deploy.local.simulator.timestamps import timestamp

Json = dict[str, object]


def summary_view(agent: Agent) -> Json:
    """An agent as lists show it."""
    return {
        "id": agent.id,
        "name": agent.name,
        "status": _lifecycle(agent),
        "env": agent.request.echo.get("env", {"type": "cloud"}),
        "url": f"https://cursor.com/agents/{agent.id}",
        "createdAt": timestamp(agent.created_at),
        "updatedAt": timestamp(agent.updated_at),
        "latestRunId": agent.latest.id,
    }


def agent_view(agent: Agent) -> Json:
    return {
        **summary_view(agent),
        "repos": [_repo(agent, index) for index in range(len(agent.request.repositories))],
        "workOnCurrentBranch": agent.request.work_on_current_branch,
        "autoCreatePR": agent.request.auto_create_pr,
        **agent.request.echo,
    }


def _lifecycle(agent: Agent) -> str:
    if agent.archived:
        return "ARCHIVED"
    return "ACTIVE" if agent.latest.status.active else "IDLE"


def _repo(agent: Agent, index: int) -> Json:
    repository = agent.request.repositories[index]
    given = {"url": repository.url, "startingRef": repository.ref, "prUrl": repository.pr_url}
    return {key: value for key, value in given.items() if value is not None}


def run_view(agent: Agent, run: Run, *, with_result: bool = True) -> Json:
    """A run; `git` is the agent's, the same on each of its runs, once it has pushed."""
    view: Json = {
        "id": run.id,
        "agentId": agent.id,
        "status": run.word,
        "createdAt": timestamp(run.created_at),
        "updatedAt": timestamp(run.updated_at),
    }
    if run.ended is not None:
        view["durationMs"] = run.duration_ms()
    result = run.shown_result()
    if with_result and result is not None:
        view["result"] = result
    git = git_view(agent)
    if git is not None:
        view["git"] = git
    return view


def git_view(agent: Agent) -> Json | None:
    """The branches that the agent has pushed, one per repository; None before any is seen."""
    if not agent.shows_branch:
        return None
    branches = []
    for repository in agent.request.repositories:
        branch: Json = {"repoUrl": without_scheme(repository.url), "branch": agent.branch}
        pr_url = agent.pr_url(repository)
        if pr_url is not None:
            branch["prUrl"] = pr_url
        branches.append(branch)
    return {"branches": branches}


def result_view(agent: Agent, run: Run) -> Json:
    """The data of the stream's `result` event."""
    view: Json = {"runId": run.id, "status": run.word, "durationMs": run.duration_ms()}
    result = run.shown_result()
    if result is not None:
        view["text"] = result
    git = git_view(agent)
    if git is not None:
        view["git"] = git
    return view


def usage_view(runs: list[Run]) -> Json:
    """Tokens and cost of the runs, each and together; zero for a run that has not ended."""
    each = [(run, _usage(run)) for run in runs]
    total = sum((usage for _, usage in each), Usage())
    return {
        "totalUsage": _tokens(total),
        "cost": _cost(total),
        "runs": [_run_usage(run, usage) for run, usage in each],
    }


def _usage(run: Run) -> Usage:
    worked = run.started is not None and run.ended is not None and "usage" not in run.hidden
    return usage_of(run.token) if worked else Usage()


def _run_usage(run: Run, usage: Usage) -> Json:
    view: Json = {"id": run.id, "usage": _tokens(usage), "cost": _cost(usage)}
    if usage != Usage():
        view["usageUuid"] = str(uuid5(NAMESPACE_URL, run.id))
    return view


def _tokens(usage: Usage) -> Json:
    return {
        "inputTokens": usage.input_tokens,
        "outputTokens": usage.output_tokens,
        "cacheWriteTokens": usage.cache_write_tokens,
        "cacheReadTokens": usage.cache_read_tokens,
        "totalTokens": sum(usage.counts()),
    }


def _cost(usage: Usage) -> Json:
    return {"rawCostCents": usage.raw_cents(), "chargedCents": usage.charged_cents()}
