"""The routes of the service."""

import asyncio
import logging
import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from micrec.errors import MicrecError
from micrec.retrieval import ListRequest, Recommendation
from micrec.retrieval.index import index_kind
from micrec.serving.batcher import Batcher
from micrec.serving.live_bundle import LiveBundle
from micrec.serving.messages import BatchAnswer, BatchRequest, Health, ItemList, RecommendRequest, listed
from micrec.serving.service_metrics import ServiceMetrics
from micrec.version import __version__

LOG = logging.getLogger("uvicorn.error")  # the server's own log

Found = Recommendation | MicrecError


def create_app(folder: Path, *, watch_s: float = 10.0, most: int = 64) -> FastAPI:
    """A service of one bundle folder, for any ASGI server.

    Args:
        folder: A folder that ``micrec index`` wrote.
        watch_s: Seconds between looks for a newer bundle in the folder; 0: only when it is told.
        most: Most requests that one search answers, >= 1.

    Raises:
        MicrecError: If the folder holds no bundle or is damaged.
    """
    live, metrics = LiveBundle(folder), ServiceMetrics()
    batcher: Batcher[ListRequest, Found] = Batcher(
        lambda asked: live.retriever.recommend_many(asked), most=most, observe=metrics.batches.observe
    )
    metrics.items.set_function(lambda: len(live.retriever.bundle.candidates))

    async def reload(*, always: bool) -> None:
        """Read the folder in a thread; a bundle that is refused is logged and counted."""
        try:
            taken = await asyncio.to_thread(live.reload if always else live.reload_if_changed)
        except MicrecError as fault:
            metrics.reloads.labels("refused").inc()
            LOG.error("the new bundle is not taken, the one before goes on: %s", fault)
            raise
        if always or taken:
            metrics.reloads.labels("taken").inc()
            LOG.info("serving the new bundle of %s", folder)

    async def watch() -> None:
        while True:
            await asyncio.sleep(watch_s)
            with suppress(MicrecError):  # it was logged
                await reload(always=False)

    async def told() -> None:
        with suppress(MicrecError):
            await reload(always=True)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(watch())] if watch_s else []
        with suppress(NotImplementedError, RuntimeError, ValueError, AttributeError):  # not the main thread, or Windows
            asyncio.get_running_loop().add_signal_handler(
                signal.SIGHUP, lambda: tasks.append(asyncio.create_task(told()))
            )
        yield
        for task in tasks:
            task.cancel()
        batcher.close()

    app = FastAPI(title="MicRec", version=__version__, lifespan=lifespan)
    app.add_middleware(_Counting, metrics=metrics)

    @app.exception_handler(MicrecError)
    async def unanswerable(_: Request, fault: Exception) -> JSONResponse:
        return JSONResponse({"error": str(fault)}, status_code=422)

    @app.exception_handler(RequestValidationError)
    async def unreadable(request: Request, fault: Exception) -> JSONResponse:
        assert isinstance(fault, RequestValidationError)
        kind = request.headers.get("content-type", "application/json")
        if not kind.startswith("application/json"):
            said = f"Content-Type is {kind}: send JSON as application/json (curl --json)"
            return JSONResponse({"error": said}, status_code=415)
        return JSONResponse({"error": "; ".join(map(_said, fault.errors()))}, status_code=422)

    @app.post("/recommend", response_model=ItemList)
    async def recommend(request: RecommendRequest) -> Any:
        """One list."""
        found = await batcher.ask(request.asked())
        if isinstance(found, MicrecError):
            raise found
        return JSONResponse(listed(found))

    @app.post("/recommend/batch", response_model=BatchAnswer)
    async def recommend_batch(request: BatchRequest) -> Any:
        """Many lists; one that cannot be answered has its error in its place."""
        found = await asyncio.gather(*(batcher.ask(one.asked()) for one in request.requests))
        return JSONResponse({"answers": _answers(found)})

    @app.get("/health")
    async def health() -> Health:
        """What is served."""
        bundle = live.retriever.bundle
        return Health(
            bundle=str(folder),
            model=bundle.model.config.name,
            index=index_kind(bundle.index),
            users=len(bundle.user_ids),
            items=len(bundle.candidates),
            loaded_at=datetime.fromtimestamp(live.loaded_at_s, UTC).isoformat(timespec="seconds"),
            last_error=live.last_error,
        )

    @app.post("/reload")
    async def reload_now() -> Health:
        """Read the folder again; a damaged bundle is not taken."""
        await reload(always=True)
        return await health()

    @app.get("/metrics")
    async def prometheus() -> Response:
        """Counters and histograms for Prometheus."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4")

    return app


class _Counting:
    """Counts requests and their seconds by route."""

    def __init__(self, app: ASGIApp, metrics: ServiceMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin, status = time.perf_counter(), 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(route, status).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - begin)


def _answers(found: Sequence[Found]) -> list[dict[str, Any]]:
    return [{"error": str(one)} if isinstance(one, MicrecError) else listed(one) for one in found]


def _said(fault: Any) -> str:
    """One validation error in a line: where, and what is wrong."""
    where = ".".join(str(part) for part in fault["loc"] if part != "body")
    text = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        text = "unknown key: leave it out"
    return f"{where}: {text}" if where else text
