"""A webhook is believed only with the signature and the address of its own attempt."""

import hashlib
import hmac
import math
import statistics
import time

import pytest

from shared.webhooks import WebhookAddress, WebhookKeys

OLD = "an-old-master-secret-of-32-characters"
NEW = "a-new-master-secret-of-32-characters!"
BODY = b'{"event":"statusChange","id":"bc_1","status":"FINISHED"}'
ADDRESS = WebhookAddress("team-1", "orc-1", "5f0c7a54-0000-5000-8000-000000000001")


def sign(secret: str, body: bytes) -> str:
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def token_of(keys: WebhookKeys, address: WebhookAddress = ADDRESS) -> str:
    return keys.token_for(address.team, address.orchestration_id, address.attempt_id)


def test_a_token_is_read_as_what_it_was_made_for() -> None:
    keys = WebhookKeys([NEW])
    assert keys.read_token(token_of(keys)) == ADDRESS


def test_a_token_goes_into_an_address_as_it_is() -> None:
    token = token_of(WebhookKeys([NEW]))
    assert all(c.isascii() and (c.isalnum() or c in "-_.") for c in token)
    assert len(token) < 300


def test_every_change_of_one_character_of_a_token_is_refused() -> None:
    keys = WebhookKeys([NEW])
    token = token_of(keys)
    for place, was in enumerate(token):
        for code in range(256):
            if (now := chr(code)) != was:
                assert keys.read_token(token[:place] + now + token[place + 1 :]) is None, (place, now)


@pytest.mark.parametrize("more", ["=", "==", ".", "A", "\n", " ", "\0"])
def test_a_token_with_more_before_or_after_it_is_refused(more: str) -> None:
    keys = WebhookKeys([NEW])
    assert keys.read_token(token_of(keys) + more) is None
    assert keys.read_token(more + token_of(keys)) is None


def test_every_part_of_a_token_alone_is_refused() -> None:
    keys = WebhookKeys([NEW])
    token = token_of(keys)
    for end in range(len(token)):
        assert keys.read_token(token[:end]) is None
        assert keys.read_token(token[end + 1 :]) is None


@pytest.mark.parametrize(
    "token",
    [
        "", ".", "..", "a", "a.b", "a.b.c", "é", "é.é", "\0", "\ud800.x", "a" * 100_000, "%2e", "YWI.YWI", "=.=",
        "////.////",
    ],
)  # fmt: skip
def test_what_is_no_token_is_refused_without_an_error(token: str) -> None:
    assert WebhookKeys([NEW]).read_token(token) is None


def test_a_token_of_another_installation_is_refused() -> None:
    assert WebhookKeys([NEW]).read_token(token_of(WebhookKeys([OLD]))) is None


def test_the_parts_of_two_tokens_cannot_be_put_together() -> None:
    keys = WebhookKeys([NEW])
    payload = token_of(keys).partition(".")[0]
    mac = token_of(keys, WebhookAddress("team-1", "orc-1", "another")).partition(".")[2]
    assert keys.read_token(f"{payload}.{mac}") is None


def test_a_secret_is_of_one_attempt_and_long_enough_for_the_provider() -> None:
    keys = WebhookKeys([NEW])
    secrets = {keys.secret_for(f"attempt-{number}") for number in range(100)}
    assert len(secrets) == 100
    assert all(len(secret) == 64 and NEW not in secret for secret in secrets)
    assert keys.secret_for("a") == WebhookKeys([NEW]).secret_for("a")


def test_a_body_with_the_signature_of_its_attempt_is_accepted() -> None:
    keys = WebhookKeys([NEW])
    assert keys.verify("a", BODY, sign(keys.secret_for("a"), BODY))


def test_every_change_of_one_byte_of_a_body_is_refused() -> None:
    keys = WebhookKeys([NEW])
    signature = sign(keys.secret_for("a"), BODY)
    for place in range(len(BODY)):
        for bit in range(8):
            changed = BODY[:place] + bytes([BODY[place] ^ 1 << bit]) + BODY[place + 1 :]
            assert not keys.verify("a", changed, signature)
    for changed in (BODY + b"\n", BODY + b" ", BODY[:-1], b""):
        assert not keys.verify("a", changed, signature)


def test_every_change_of_one_character_of_a_signature_is_refused() -> None:
    keys = WebhookKeys([NEW])
    signature = sign(keys.secret_for("a"), BODY)
    for place, was in enumerate(signature):
        for code in range(256):
            if (now := chr(code)) != was:
                assert not keys.verify("a", BODY, signature[:place] + now + signature[place + 1 :])


def test_what_was_given_is_compared_with_what_is_right_in_constant_time_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever `compare_digest` says is the answer, so nothing else can have looked."""
    keys = WebhookKeys([NEW, OLD])
    good, token = sign(keys.secret_for("a"), BODY), token_of(keys)
    compared: list[bytes] = []

    def stand_in(wanted: bytes, given: bytes) -> bool:
        compared.append(given)
        return answer

    monkeypatch.setattr(hmac, "compare_digest", stand_in)
    for answer in (True, False):
        assert keys.verify("a", BODY, good) is answer
        assert keys.verify("a", BODY, "sha256=" + "0" * 64) is answer
        assert (keys.read_token(token) is not None) is answer
    # Each time with every master: which of them it is does not show either.
    assert len(compared) == 2 * 3 * 2
    assert all(isinstance(given, bytes) for given in compared)


def test_how_much_of_a_signature_is_right_does_not_show_in_the_time_that_it_takes() -> None:
    """Over 50 pairs with 400 looks at each; one of ten such rounds must not tell them apart.

    A comparison that stops at the first difference shows in every one.
    """
    keys = WebhookKeys([NEW])
    good = sign(keys.secret_for("a"), BODY)
    assert any(abs(_apart(keys, good, pairs=50, looks=400)) < 3 for _ in range(10))


def _apart(keys: WebhookKeys, good: str, *, pairs: int, looks: int) -> float:
    """How many standard errors the mean difference is from none; each pair's slowest hundredth is left out.

    Of many pairs, for where two strings lie in memory, and which was made first, shows in the time as well.
    """
    kept = [{kind: good[:at] + "x" + good[at + 1 :] for kind, at in turned} for turned in _both_ways(len(good), pairs)]
    differences = [_difference(keys, wrong, looks) for wrong in kept]
    return statistics.fmean(differences) / (statistics.stdev(differences) / math.sqrt(pairs))


def _both_ways(length: int, pairs: int) -> list[list[tuple[str, int]]]:
    """Which is made first, and where it differs: by turns."""
    places = [("first", 7), ("last", length - 1)]
    return [places[:: 1 if number % 2 else -1] for number in range(pairs)]


def _difference(keys: WebhookKeys, wrong: dict[str, str], looks: int) -> float:
    times: dict[str, list[int]] = {kind: [] for kind in wrong}
    turn = list(wrong.items())
    for _ in range(looks):
        turn.reverse()  # the second look of a turn is a little quicker than the first, whatever it is at
        for kind, signature in turn:
            begun = time.perf_counter_ns()
            keys.verify("a", BODY, signature)
            times[kind].append(time.perf_counter_ns() - begun)
    first, last = (sorted(times[kind])[: looks * 99 // 100] for kind in ("first", "last"))
    return statistics.fmean(first) - statistics.fmean(last)


def test_the_secret_of_one_attempt_is_refused_for_another() -> None:
    keys = WebhookKeys([NEW])
    assert not keys.verify("b", BODY, sign(keys.secret_for("a"), BODY))


def test_the_master_secret_itself_signs_nothing() -> None:
    assert not WebhookKeys([NEW]).verify("a", BODY, sign(NEW, BODY))


def test_a_token_is_no_secret_and_a_secret_no_token() -> None:
    """They are derived under different names: what one shows must not help with the other."""
    keys = WebhookKeys([NEW])
    assert not keys.verify("a", BODY, sign(token_of(keys), BODY))
    assert keys.read_token(keys.secret_for("a")) is None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda signature: None,
        lambda signature: "",
        lambda signature: "sha256",
        lambda signature: "sha256=",
        lambda signature: signature.removeprefix("sha256="),
        lambda signature: signature.upper(),
        lambda signature: signature.replace("sha256", "SHA256"),
        lambda signature: signature.replace("sha256", "sha1"),
        lambda signature: signature.replace("=", ":"),
        lambda signature: signature[:-1],
        lambda signature: f"{signature}0",
        lambda signature: f" {signature}",
        lambda signature: f"{signature} ",
        lambda signature: f"{signature},{signature}",
        lambda signature: "sha256=" + "é" * 64,
        lambda signature: "\ud800",
        lambda signature: "sha256=" + "0" * 64,
        lambda signature: "sha256=" + "0" * 1_000_000,
    ],
)
def test_an_odd_signature_header_is_refused_without_an_error(spoil) -> None:  # type: ignore[no-untyped-def]
    keys = WebhookKeys([NEW])
    assert not keys.verify("a", BODY, spoil(sign(keys.secret_for("a"), BODY)))


def test_while_the_master_is_replaced_both_are_accepted_and_the_new_one_is_used() -> None:
    before, both, after = WebhookKeys([OLD]), WebhookKeys([NEW, OLD]), WebhookKeys([NEW])
    for keys in (before, after):
        assert both.read_token(token_of(keys)) == ADDRESS
        assert both.verify("a", BODY, sign(keys.secret_for("a"), BODY))
    assert token_of(both) == token_of(after)
    assert both.secret_for("a") == after.secret_for("a")
    assert after.read_token(token_of(before)) is None
    assert not after.verify("a", BODY, sign(before.secret_for("a"), BODY))
