"""Made-up requests, by the document: no answer is a failure of ours, and every one is as the document says.

A short way through all operations; `make fuzz` goes on for more than 5000 requests.
"""

from tests.fuzz.fuzzing import target


async def test_made_up_requests_are_answered_as_the_document_says(nats_url: str, database_url: str) -> None:
    async with target(nats_url, database_url) as api:
        fuzzed = await api.fuzz("--phases", "fuzzing", "--max-examples", "2", "--generation-deterministic")
    assert fuzzed.status == 0, fuzzed.output
    assert fuzzed.cases > 100, fuzzed.output
