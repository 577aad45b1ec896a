"""`Idempotency-Key`: one orchestration for a key, and one answer, whatever happens in between."""

from tests.integration.api.system import Running, order

PATH = "/api/orchestrations"


async def test_a_repeat_gets_the_first_answer_and_creates_nothing(api: Running) -> None:
    headers = {"Idempotency-Key": "first"}
    first = await api.http.post(PATH, json=order(), headers=headers)
    assert first.status_code == 201
    await api.http.post(f"{PATH}/{first.json()['id']}/activate")
    again = await api.http.post(PATH, json=order(), headers=headers)
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["Location"] == first.headers["Location"]
    assert again.headers["Content-Type"] == first.headers["Content-Type"]
    assert ("Idempotency-Replayed" in first.headers, again.headers["Idempotency-Replayed"]) == (False, "true")
    assert len((await api.http.get(PATH)).json()["items"]) == 1
