"""Request bodies of the older version."""

from pydantic import Field

from deploy.local.simulator.agents import NewAgent, Repository, Webhook
from deploy.local.simulator.errors import ApiError
from deploy.local.simulator.models import DEFAULT, check_model
from deploy.local.simulator.schemas import (
    Dimension,
    PullRequestUrl,
    RepositoryUrl,
    Strict,
    Text,
    WebUrl,
    repository_of_pull_request,
    valid_branch,
)


class Image(Strict):
    data: Text
    dimension: Dimension | None = None


class Prompt(Strict):
    text: Text
    images: list[Image] = Field(default=[], max_length=5)


class Source(Strict):
    repository: RepositoryUrl | None = None
    ref: Text | None = None
    prUrl: PullRequestUrl | None = None


class Target(Strict):
    autoCreatePr: bool = False
    openAsCursorGithubApp: bool = False
    skipReviewerRequest: bool = False
    branchName: Text | None = None


class WebhookTarget(Strict):
    url: WebUrl
    secret: str | None = Field(default=None, min_length=32, max_length=256)


class CreateAgent(Strict):
    prompt: Prompt
    source: Source
    model: Text | None = None
    target: Target = Target()
    webhook: WebhookTarget | None = None

    def new_agent(self) -> NewAgent:
        """Raises:
        ApiError: for what a schema cannot say: no repository, a model or a branch name that will not do.
        """
        if self.model is not None and self.model != DEFAULT:
            check_model(self.model)
        branch = self.target.branchName
        if branch is not None and not valid_branch(branch):
            raise ApiError("invalid_branch_name", f"target.branchName: '{branch}' is not a branch name")
        return NewAgent(
            prompt=self.prompt.text,
            repositories=(self._repository(),),
            version="v0",
            model=None if self.model == DEFAULT else self.model,
            branch=branch,
            auto_create_pr=self.target.autoCreatePr,
            webhook=Webhook(self.webhook.url, self.webhook.secret) if self.webhook else None,
        )

    def _repository(self) -> Repository:
        source = self.source
        url = source.repository or repository_of_pull_request(source.prUrl or "")
        if url is None:
            raise ApiError("validation_error", "source.repository: Field required")
        return Repository(url, source.ref or "main", source.prUrl)


class FollowUp(Strict):
    prompt: Prompt
