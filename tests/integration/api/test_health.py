"""Health, readiness, metrics and the OpenAPI document."""

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from shared.views import View
from tests.integration.api.system import Running, running_api
from tests.support.eventually import eventually


async def test_health_needs_no_key_and_names_each_part(api: Running) -> None:
    async def all_is_told() -> View:
        response = await api.http.get("/health", headers={"X-API-Key": ""})
        assert response.status_code == 200
        report: View = response.json()
        states = {name: check["status"] for name, check in report["checks"].items()}
        # There is no provider in these tests.
        assert states == {"database": "pass", "queue": "pass", "cursorApi": "fail", "worker": "pass"}
        return report

    report = await eventually(all_is_told)
    assert (await api.http.get("/api/health")).json().keys() == report.keys()
    assert set(report) == {"status", "timestamp", "uptime", "checks"}
    assert report["status"] == "degraded"
    assert all(set(check) == {"status", "responseTime", "message"} for check in report["checks"].values())


async def test_without_a_dispatcher_the_worker_fails(nats_url: str, database_url: str) -> None:
    async with running_api(nats_url, database_url, dispatching=False) as api:

        async def is_told() -> None:
            report = (await api.http.get("/health")).json()
            assert report["checks"]["worker"]["message"] == "no dispatcher waits for commands"
            assert report["status"] == "degraded"

        await eventually(is_told)


async def test_ready_until_asked_to_stop(api: Running) -> None:
    async def ready() -> bool:
        return (await api.http.get("/health/ready")).status_code == 200

    await eventually(ready)
    api.runtime.readiness.stopping = True
    stopping = await api.http.get("/health/ready")
    assert (stopping.status_code, stopping.json()["status"]) == (503, "stopping")
    assert (await api.http.get("/health/live")).status_code == 200


async def test_metrics_count_requests_by_route_and_never_by_path(api: Running) -> None:
    created = await api.create()
    await api.http.get(f"/api/orchestrations/{created['id']}")
    await api.http.get("/no/such/path")
    text = (await api.http.get("/metrics")).text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    routes = {sample.labels["route"] for sample in samples if sample.name == "http_requests_total"}
    assert {"/api/orchestrations/{orchestration_id}", "unknown"} <= routes
    assert created["id"] not in text


async def test_the_openapi_document_describes_every_route(api: Running) -> None:
    document: dict[str, Any] = (await api.http.get("/openapi.json")).json()
    operations = [
        (path, method, operation) for path, item in document["paths"].items() for method, operation in item.items()
    ]
    ids = [operation["operationId"] for _, _, operation in operations]
    assert len(set(ids)) == len(ids) >= 12
    for path, _, operation in operations:
        assert operation["tags"]
        assert operation["summary"]
        assert "HTTPValidationError" not in str(operation["responses"].get("422"))
        if path.startswith("/api/orchestrations"):
            assert {"401", "403", "500", "503"} <= set(operation["responses"])
            assert operation["security"]
    create = document["paths"]["/api/orchestrations"]["post"]["requestBody"]["content"]["application/json"]
    assert create["schema"] == {"$ref": "#/components/schemas/CreateRequest"}
    for example in create["examples"].values():
        response = await api.http.post("/api/orchestrations", json=example["value"])
        assert response.status_code == 201
    assert (await api.http.get("/docs")).status_code == 200


async def test_every_reference_in_the_document_leads_somewhere(api: Running) -> None:
    document = (await api.http.get("/openapi.json")).json()

    def references(value: Any) -> list[str]:
        if isinstance(value, dict):
            own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
            return own + [found for item in value.values() for found in references(item)]
        return [found for item in value for found in references(item)] if isinstance(value, list) else []

    names = {f"#/components/{kind}/{name}" for kind, things in document["components"].items() for name in things}
    assert set(references(document)) <= names
