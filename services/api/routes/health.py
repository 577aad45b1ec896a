"""Health, readiness and metrics; without a key, on the paths that probes expect and below `/api`."""

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import PlainTextResponse, Response

from services.api.parts import TheParts
from services.api.responses import HealthShape, Json, LivenessShape, ReadinessShape

router = APIRouter(tags=["health"])

_METRICS_EXAMPLE = """# HELP projection_lag_events Messages of the log that the read side does not show yet
# TYPE projection_lag_events gauge
projection_lag_events 0.0
"""


@router.get(
    "/health",
    operation_id="getHealth",
    summary="How well everything is",
    responses={
        200: {"model": HealthShape, "description": "Requests are served."},
        503: {"model": HealthShape, "description": "There is no database or no message broker."},
    },
)
@router.get("/api/health", include_in_schema=False)
async def health(parts: TheParts) -> Response:
    """`degraded` still answers 200: requests are served, but something else is wrong."""
    serving, report = await parts.health.report()
    return Json(report, 200 if serving else 503, None if serving else {"Retry-After": "5"})


@router.get(
    "/health/live",
    operation_id="getLiveness",
    summary="Whether the process lives",
    responses={200: {"model": LivenessShape, "description": "It does."}},
)
@router.get("/api/health/live", include_in_schema=False)
async def live() -> Response:
    return Json({"status": "live"})


@router.get(
    "/health/ready",
    operation_id="getReadiness",
    summary="Whether requests should come here",
    responses={
        200: {"model": ReadinessShape, "description": "They should."},
        503: {"model": ReadinessShape, "description": "Not yet, or not any more."},
    },
)
@router.get("/api/health/ready", include_in_schema=False)
async def ready(parts: TheParts) -> Response:
    serving, report = await parts.readiness.answer()
    return Json(report, 200 if serving else 503, None if serving else {"Retry-After": "5"})


@router.get(
    "/metrics",
    operation_id="getMetrics",
    summary="Metrics in the format of Prometheus",
    response_class=PlainTextResponse,
    responses={200: {"description": "All of this process.", "content": {"text/plain": {"example": _METRICS_EXAMPLE}}}},
)
@router.get("/api/metrics", include_in_schema=False)
async def metrics() -> Response:
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
