"""Serve the clusters of a run over HTTP: rows as JSON in, their clusters out.

    pip install 'rooms-engine[serve]'
    ROOMS_RUN=runs/today uvicorn --app-dir examples serve:app --no-access-log

    curl localhost:8000/assign -H 'Content-Type: application/json' -d '[{"user_id": 7, "age": 41, …}, …]'

A row is an object with the columns of the table that the run was made of; null is a missing value. Dates are texts such
as "2024-09-04". GET /model says which columns there are. The answer has `rows`, each with the id, the cluster with its
name, how clear the case is (margin, from 0 to 1), and the odds of the runner-up; and `warnings`, texts on values that
the model does not know, such as a category that no row of the fit had.

Rows that cannot be read give status 422, with a message that names the column. Requests that wait at the same time are
assigned together, which takes less time, but each is read and checked by itself: none changes another one's answer. One
process uses one core: start as many as there are cores (`--workers`), and new ones for a new run.
"""

from __future__ import annotations

import asyncio
import os
import warnings
from collections.abc import Sequence
from typing import Any

import msgspec
from litestar import Litestar, MediaType, Request, Response, get, post
from litestar.datastructures import State
from litestar.exceptions import ClientException, ValidationException

import engine
from engine.errors import DataError, NotExplainedError, RoomsError

MAX_ROWS = 1_000
Rows = list[dict[str, Any]]
Answer = dict[str, Any]  # rows, and texts of warnings
DECODER, ENCODER = msgspec.json.Decoder(Rows), msgspec.json.Encoder()


class Assigner:
    """Assigns the rows of requests; those that wait at the same time, in one call."""

    def __init__(self, run: str) -> None:
        self.model = engine.load(run)
        try:
            self._with: tuple[str, ...] = ("name",) if self.model.cluster_names else ()
        except NotExplainedError:  # a run made with --skip explain has no names
            self._with = ()
        self._waiting: list[tuple[Rows, asyncio.Future[Answer]]] = []

    def warm_up(self) -> None:
        """Assign a row without values, so that no request waits for a kernel."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            row = dict.fromkeys(self.model.encoder.columns) | ({} if self.model.id is None else {self.model.id: 0})
            self.model.assign_each([[row]], with_columns=self._with)

    async def assign(self, rows: Rows) -> Answer:
        """Return the cluster of each row and warnings, or raise what is wrong with these rows."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answer] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._assign_waiting)
        self._waiting.append((rows, answer))
        return await answer

    def _assign_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        outcomes: Sequence[Rows | Exception]
        messages: list[list[str]] = [[] for _ in waiting]
        try:
            outcomes = self.model.assign_each(
                [rows for rows, _ in waiting], with_columns=self._with, warned=lambda k, text: messages[k].append(text)
            )
        except Exception as error:  # a fault of the server: nobody waits forever
            outcomes = [error] * len(waiting)
        for (_, answer), outcome, texts in zip(waiting, outcomes, messages, strict=True):
            if answer.cancelled():  # the client is gone
                continue
            if isinstance(outcome, Exception):
                answer.set_exception(outcome)
            else:
                answer.set_result({"rows": outcome, "warnings": texts})


@post("/assign", status_code=200)
async def assign(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Return the cluster of each row, and warnings."""
    # msgspec alone reads the body, which takes a third of the time that a parameter of Litestar takes.
    try:
        rows = DECODER.decode(await request.body())
    except msgspec.ValidationError as error:
        raise ValidationException(f"The body is no list of objects: {error}") from error
    except msgspec.DecodeError as error:
        raise ClientException(f"The body is no JSON: {error}") from error
    if not 0 < len(rows) <= MAX_ROWS:
        raise ValidationException(f"A request has 1 to {MAX_ROWS:,} rows, not {len(rows):,}.")
    assigner: Assigner = request.app.state.assigner
    return Response(ENCODER.encode(await assigner.assign(rows)), media_type=MediaType.JSON)


@get("/model")
async def describe_model(state: State) -> dict[str, Any]:
    """Return the run, its clusters, and the columns that rows have."""
    model = state.assigner.model
    columns = {column.column: column.role for column in model.encoder.plan.columns}
    return {"run": str(model.run_folder), "clusters": model.n_clusters, "id": model.id, "columns": columns}


@get("/health")
async def health() -> str:
    """Answer once the model is read and warm."""
    return "ok"


def load_model(app: Litestar) -> None:
    """Read the model of $ROOMS_RUN."""
    app.state.assigner = Assigner(os.environ["ROOMS_RUN"])
    app.state.assigner.warm_up()


def refuse_rows(_: Request[Any, Any, Any], error: RoomsError) -> Response[dict[str, Any]]:
    """Answer with what is wrong with the rows; anything else is an error of the server."""
    facts = {"error": type(error).__name__, "message": error.message, "hint": error.hint}
    return Response(facts, status_code=422 if isinstance(error, DataError) else 500)


def refuse_body(_: Request[Any, Any, Any], error: ValidationException) -> Response[dict[str, Any]]:
    """Answer that the body is no list of rows."""
    return Response({"error": "ValidationException", "message": error.detail, "hint": None}, status_code=422)


app = Litestar(
    [assign, describe_model, health],
    on_startup=[load_model],
    exception_handlers={RoomsError: refuse_rows, ValidationException: refuse_body},
    openapi_config=None,
)
