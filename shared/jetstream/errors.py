"""Errors of the JetStream adapters, in our own words."""


class UnreadableCommitError(Exception):
    """A message of the log is not a commit that this release can read.

    `sequence` and `subject` say which one. Whoever may not miss a commit stops here; whoever only shows
    what happens goes on with `follow(after=error.sequence)`.
    """

    def __init__(self, sequence: int, subject: str, reason: str) -> None:
        super().__init__(f"message {sequence} on {subject} is not a readable commit: {reason}")
        self.sequence = sequence
        self.subject = subject
        self.reason = reason


class PayloadTooLargeError(ValueError):
    """The message is larger than anything we publish (512 KiB); nothing was sent."""


class DuplicateIdError(ValueError):
    """The message id was used for another message of the stream, so the broker dropped this one unseen."""


class PublishRefusedError(Exception):
    """The broker refused the message for good; it is not stored."""


class StreamFullError(PublishRefusedError):
    """There is no room for the message now; it is not stored."""


class AlreadyThereError(PublishRefusedError):
    """The stream takes one message a subject, and one is there."""


class PublishUnavailableError(Exception):
    """No answer within the retry budget: the message may or may not be stored."""


class UnreadableHistoryError(Exception):
    """The broker refused to read from a stream."""


class TopologyDriftError(Exception):
    """A stream, consumer or bucket is missing or differs from its declaration."""


class WeakBrokerError(Exception):
    """The broker may lose acknowledged messages in a power cut."""
