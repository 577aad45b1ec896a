"""What GitHub says of a repository and a ref in it, over real HTTP; and what is said where it does not."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from starlette.responses import Response

from services.api import github as github_module
from services.api.errors import ApiError
from services.api.github import Amiss, GitHub
from tests.support.github import TOKEN, FakeGitHub, fake_github

pytestmark = pytest.mark.asyncio(loop_scope="module")

SHOP = "https://github.com/acme/shop"
PLACE = "/repos/acme/shop"
MAIN = f"{PLACE}/commits/main"


@pytest_asyncio.fixture(name="both", scope="module", loop_scope="module")
async def _both() -> AsyncIterator[tuple[GitHub, FakeGitHub]]:
    async with fake_github() as fake:
        client = GitHub(TOKEN, fake.url)
        yield client, fake
        await client.aclose()


@pytest.fixture
def client(both: tuple[GitHub, FakeGitHub]) -> GitHub:
    return both[0]


@pytest.fixture
def fake(both: tuple[GitHub, FakeGitHub]) -> FakeGitHub:
    """To which one repository is known."""
    both[1].forget()
    both[1].repositories["acme/shop"] = {"main", "feature/x", "v1.2", "6dcb09b"}
    return both[1]


async def left_open(client: GitHub) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await client.look(SHOP, "main")
    assert (caught.value.code, caught.value.status) == ("GITHUB_API_ERROR", 502)
    assert "nothing was created" in caught.value.message
    return caught.value


@pytest.mark.parametrize("ref", ["main", "feature/x", "v1.2", "6dcb09b"])
async def test_nothing_is_amiss_with_a_branch_a_tag_or_a_commit_that_is_there(
    client: GitHub, fake: FakeGitHub, ref: str
) -> None:
    assert await client.look(SHOP, ref) is None
    assert fake.paths == [PLACE, f"{PLACE}/commits/{ref}"]
    assert fake.requests[0].headers["accept"] == "application/vnd.github+json"
    assert fake.requests[1].headers["accept"] == "application/vnd.github.sha"


async def test_a_repository_that_the_token_does_not_see_is_named_with_the_way_out(
    client: GitHub, fake: FakeGitHub
) -> None:
    amiss = await client.look("https://github.com/acme/secret", "main")
    assert amiss is not None
    assert amiss.what == "repository"
    for hint in ("acme/secret", "spelled", "GITHUB_TOKEN", "GitHub App"):
        assert hint in amiss.message
    assert fake.paths == ["/repos/acme/secret"]


@pytest.mark.parametrize("status", [403, 451])
async def test_a_repository_that_may_not_be_read_is_amiss_too(client: GitHub, fake: FakeGitHub, status: int) -> None:
    fake.says(PLACE, status)
    amiss = await client.look(SHOP, "main")
    assert (amiss and amiss.what) == "repository"


@pytest.mark.parametrize("status", [404, 422])
async def test_a_ref_that_is_not_there_is_named(client: GitHub, fake: FakeGitHub, status: int) -> None:
    fake.says(f"{PLACE}/commits/nope", status)
    amiss = await client.look(SHOP, "nope")
    assert amiss == Amiss("ref", "GitHub shows no branch, tag or commit 'nope' in acme/shop: check how it is spelled")


async def test_a_repository_without_a_commit_or_without_a_way_to_push_is_amiss(
    client: GitHub, fake: FakeGitHub
) -> None:
    fake.repositories["acme/new"] = set()
    fake.archived.add("acme/shop")
    empty = await client.look("https://github.com/acme/new", "main")
    archived = await client.look(SHOP, "main")
    assert empty is not None
    assert archived is not None
    assert (empty.what, archived.what) == ("repository", "repository")
    assert "empty" in empty.message
    assert "archived" in archived.message


async def test_a_repository_that_has_moved_is_looked_at_where_it_is_now(client: GitHub, fake: FakeGitHub) -> None:
    fake.repositories["acme/store"] = {"main"}
    fake.says(PLACE, 301, location=f"{fake.url}/repos/acme/store")
    fake.says(MAIN, 301, location="/repos/acme/store/commits/main")
    assert await client.look(SHOP, "main") is None
    assert fake.paths == [PLACE, "/repos/acme/store", MAIN, "/repos/acme/store/commits/main"]


async def test_the_token_goes_nowhere_else(client: GitHub, fake: FakeGitHub) -> None:
    async with fake_github() as other:
        fake.says(PLACE, 302, location=f"{other.url}{PLACE}")
        await left_open(client)
        assert other.requests == []


async def test_who_sends_us_round_in_circles_is_left(client: GitHub, fake: FakeGitHub) -> None:
    fake.says(PLACE, 301, location=PLACE)
    await left_open(client)
    assert len(fake.requests) == 3


@pytest.mark.parametrize("status", [500, 502, 503, 400, 418, 204])
@pytest.mark.parametrize("path", [PLACE, MAIN])
async def test_what_github_does_not_say_is_left_open(client: GitHub, fake: FakeGitHub, status: int, path: str) -> None:
    fake.says(path, status, Retry_After="7")
    assert (await left_open(client)).headers == {"Retry-After": "7"}


@pytest.mark.parametrize(
    ("status", "headers", "wait"),
    [
        (429, {"Retry_After": "30"}, 30),
        (403, {"Retry_After": "30"}, 30),
        (429, {}, 60),
        (429, {"X_RateLimit_Reset": "soon"}, 60),
        (429, {"X_RateLimit_Reset": "inf"}, 60),
        (403, {"X_RateLimit_Remaining": "0", "X_RateLimit_Reset": "1"}, 1),
        (403, {"X_RateLimit_Remaining": "0", "X_RateLimit_Reset": "99999999999"}, 900),
    ],
)
async def test_a_throttle_says_how_long_to_wait(
    client: GitHub, fake: FakeGitHub, status: int, headers: dict[str, str], wait: int
) -> None:
    fake.says(PLACE, status, **headers)
    assert (await left_open(client)).headers == {"Retry-After": str(wait)}


async def test_the_end_of_a_rate_limit_is_waited_for_by_its_own_clock(client: GitHub, fake: FakeGitHub) -> None:
    fake.says(PLACE, 403, X_RateLimit_Remaining="0", X_RateLimit_Reset=str(int(time.time()) + 600))
    assert 500 <= int((await left_open(client)).headers["Retry-After"]) <= 601


async def test_a_bad_token_is_the_operators_matter_and_is_shown_nowhere(
    client: GitHub, fake: FakeGitHub, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    client = GitHub("a-wrong-token", fake.url)
    error = await left_open(client)
    await client.aclose()
    assert "GITHUB_TOKEN" in error.message
    assert "a-wrong-token" not in f"{error} {error.headers} {caplog.text}"


async def test_nobody_there_is_left_open_and_the_token_is_not_shown(
    client: GitHub, fake: FakeGitHub, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    client = GitHub(TOKEN, "http://127.0.0.1:1")
    error = await left_open(client)
    await client.aclose()
    assert TOKEN not in f"{error} {error.__cause__!r} {error.__context__!r} {caplog.text}"


async def test_it_is_not_waited_for_long(client: GitHub, fake: FakeGitHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(github_module, "_PATIENCE_SECONDS", 0.05)
    never = asyncio.Event()

    async def hang() -> Response:
        await never.wait()
        return Response()

    fake.answers[PLACE] = hang
    error = await left_open(client)
    never.set()
    assert "in time" in error.message


@pytest.mark.parametrize("body", [[], "text", 7])
async def test_an_answer_that_makes_no_sense_is_left_open(client: GitHub, fake: FakeGitHub, body: object) -> None:
    fake.says(PLACE, 200, body)
    await left_open(client)


async def test_an_answer_is_not_read_without_end(client: GitHub, fake: FakeGitHub) -> None:
    fake.says(PLACE, 200, {"x": "y" * (6 * 1024 * 1024)})
    await left_open(client)


@pytest.mark.parametrize("token", ["", " ", "a b", "a\n", "ключ"])
async def test_a_token_that_cannot_be_sent_is_refused_without_being_shown(token: str) -> None:
    with pytest.raises(ValueError, match="GITHUB_TOKEN") as caught:
        GitHub(token, "https://api.github.com")
    assert not token.strip() or token not in str(caught.value)


@pytest.mark.parametrize("address", ["", "api.github.com", "ftp://x", "https://a:b@c"])
async def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="GitHub's address"):
        GitHub(TOKEN, address)
