"""What is taken away, where, and which tests fail without it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutant:
    """`old` is replaced by `new` in `file`, in which it is once; at least one of `tests` must fail by that."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


_LOG = "tests/contracts/test_event_log.py"
_CONSUMER = "tests/integration/jetstream/test_consumer.py"
_BOOTSTRAP = "tests/integration/jetstream/test_bootstrap.py"

MUTANTS = (
    Mutant(
        "no expected sequence on append",
        "shared/jetstream/event_log.py",
        "            Header.EXPECTED_LAST_SUBJECT_SEQUENCE.value: str(expected),\n",
        "",
        (
            f"{_LOG}::test_of_fifty_writers_at_one_sequence_exactly_one_wins",
            f"{_LOG}::test_an_append_at_the_wrong_sequence_is_a_conflict",
        ),
    ),
    Mutant(
        "no id of our own in a create",
        "shared/cursor/v1.py",
        '        "agentId": request.agent_id,\n',
        "",
        (
            "tests/unit/cursor/test_v1.py::test_a_create_sends_what_is_known_and_nothing_else",
            "tests/contracts/test_provider.py::test_the_same_create_twice_makes_one_agent",
        ),
    ),
    Mutant(
        "ack before handling",
        "shared/jetstream/consumer.py",
        "                await self._handler(delivery)\n",
        '                await self._answer("ack", message.ack)\n                await self._handler(delivery)\n',
        (f"{_CONSUMER}::test_an_error_is_tried_again_with_growing_delays",),
    ),
    Mutant(
        "the library's default ack policy",
        "shared/jetstream/pull.py",
        "        ack_policy=AckPolicy.MANUAL,\n",
        "",
        (f"{_CONSUMER}::test_a_message_whose_answer_could_not_be_sent_is_kept",),
    ),
    Mutant(
        "a broker that syncs now and then is accepted",
        "shared/jetstream/durability.py",
        '.get("sync_always") is not True:',
        '.get("sync_always", True) is not True:',
        (
            f"{_BOOTSTRAP}::test_a_broker_that_does_not_write_before_its_ack_is_refused",
            f"{_BOOTSTRAP}::test_the_command_exits_1_on_a_weak_broker_and_waits_for_no_better_one",
        ),
    ),
    Mutant(
        "== instead of compare_digest for signatures",
        "shared/webhooks.py",
        "sum(hmac.compare_digest(wanted, given) for wanted in expected)",
        "sum(wanted == given for wanted in expected)",
        ("tests/unit/test_webhooks.py::test_what_was_given_is_compared_with_what_is_right_in_constant_time_only",),
    ),
    Mutant(
        "a create on v0 is sent again before it is looked for",
        "services/dispatcher/bringing_up.py",
        'is_safe = provider.version == "v1" or not certainty.unknown',
        "is_safe = True",
        ("tests/unit/dispatcher/test_launcher.py",),
    ),
    Mutant(
        "whoever did not start the attempt takes its create for not sent",
        "services/dispatcher/launcher.py",
        "            certainty.lose()\n            state = await self._load(ticket)  # it may have ended",
        "            state = await self._load(ticket)  # it may have ended",
        ("tests/unit/dispatcher/test_launcher.py",),
    ),
    Mutant(
        "an agent that exists already is taken for a failure",
        "shared/cursor/v1.py",
        "            if not is_conflict(error, AGENT_ID_CONFLICT):\n                raise\n",
        "            raise\n",
        ("tests/unit/cursor/test_v1.py::test_an_agent_that_exists_already_is_read_and_adopted",),
    ),
    Mutant(
        "the slot of an attempt that has ended is kept",
        "shared/domain/plan.py",
        "            yield FreeSlot(attempt.attempt_id)\n",
        "",
        ("tests/unit/dispatcher/test_reconcile.py",),
    ),
)
