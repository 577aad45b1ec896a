"""What can go wrong with the provider, in one type."""


class ProviderError(Exception):
    """A call to the provider did not succeed.

    Args:
        code: the provider's own code (`agent_busy`, `usage_limit_exceeded`, …), or `timeout`,
            `network_error`, `bad_response` where no proper answer came, `provider_unavailable` where it
            was not asked for it has failed before, or `unknown`.
        message: safe to show; holds no secret.
        status: HTTP status, None when there was no answer.
        retryable: the same call may succeed later without anybody changing anything.
        outcome_known: False when the call may have taken effect although no answer says so.
        retry_after: seconds to wait, where the provider, or a limit of ours, asks for that.
        billing: the account must be changed by its owner (plan, usage limit); every call will be refused.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int | None = None,
        retryable: bool = False,
        outcome_known: bool = True,
        retry_after: float | None = None,
        billing: bool = False,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status
        self.retryable = retryable
        self.outcome_known = outcome_known
        self.retry_after = retry_after
        self.billing = billing
