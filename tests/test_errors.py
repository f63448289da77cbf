"""The errors of the engine: no text of theirs shows the password of a URL."""

from __future__ import annotations

import pytest

from engine.errors import DataError, GateStoppedError, RoomsError, hide_credentials

HIDDEN = [
    "postgresql://reader:Geheim@host/db",
    "postgresql://reader:a@Geheim/1@host/db",
    "postgresql://:Geheim@host",
    "https://Geheim@host/rows.csv",
    "postgresql//reader:Geheim@host/db",
    "/runs/postgresql:/reader:Geheim@host/db",
    "reader:${USER}Geheim@host",
    "mysql://reader:${A}@Geheim@host/db",
    "Driver=x;PWD=Geheim;Server=host",
]
KEPT = [
    "postgresql://reader:${DB_PASSWORD}@host/db",
    "postgresql://host:5432/db",
    "runs/anna@host.parquet",
    "tcp://host:8786",
    "12:30 at 'a@b'",
]


@pytest.mark.parametrize("text", HIDDEN)
def test_credentials_are_hidden_in_every_error(text: str) -> None:
    errors = [RoomsError(f"see {text}: no"), DataError("no", hint=f"try '{text}'."), GateStoppedError("no", [text])]
    for error in errors:
        for shown in (str(error), error.message, str(error.hint), repr(error)):
            assert "Geheim" not in shown
    assert "host" in str(errors[0])


@pytest.mark.parametrize("text", KEPT)
def test_other_texts_stay(text: str) -> None:
    assert hide_credentials(text) == text
