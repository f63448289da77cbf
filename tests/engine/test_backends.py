"""Which backend a device gets, and what is said about it."""

from __future__ import annotations

import pytest

from engine import backends
from engine.errors import DeviceNotAvailableError, UsageError


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_the_choice_comes_with_its_reason(device: str) -> None:
    backend, reason = backends.resolve(device)
    assert backend.name == "cpu"
    assert reason.startswith("cpu, because")


def test_a_device_asked_for_by_name_is_never_replaced() -> None:
    with pytest.raises(DeviceNotAvailableError, match=r"'cuda' was asked for.*\nHint: "):
        backends.resolve("cuda")


def test_an_unknown_device_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="'tpu' is none of auto, cpu, cuda"):
        backends.resolve("tpu")
