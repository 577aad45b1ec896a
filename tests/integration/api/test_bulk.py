"""One request, many repositories: what becomes of each is told, and none stops another."""

from typing import Any

from tests.integration.api.system import TASK, Running

PATH = "/api/orchestrations/bulk"


def many(*repositories: Any, **fields: Any) -> dict[str, Any]:
    return {"repositories": list(repositories), "tasks": [TASK], **fields}


async def test_each_repository_is_told_in_the_order_given(api: Running) -> None:
    body = many(
        "acme/shop",
        "no repository",
        {"repository": "acme/blog", "ref": "develop", "name": "The blog"},
        {"repository": "acme/wiki", "colour": "red"},
        "https://github.com/Acme/Shop.git",
        {"repository": "acme/shop", "ref": "next"},
        7,
        name="Licence",
    )
    response = await api.http.post(PATH, json=body)
    assert response.status_code == 200, response.text
    answer = response.json()
    assert [item["status"] for item in answer["items"]] == [201, 400, 201, 400, 400, 201, 400]
    assert [item["repository"] for item in answer["items"]] == [
        "acme/shop", "no repository", "acme/blog", "acme/wiki", "https://github.com/Acme/Shop.git", "acme/shop", None,
    ]  # fmt: skip
    assert (answer["created"], answer["failed"], answer["undecided"]) == (3, 4, 0)
