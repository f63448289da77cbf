"""Connect to a Dask scheduler, with TLS where its address is a tls:// one."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distributed import Client, Security

from engine.config import ClusterConfig
from engine.errors import SchedulerLostError, UsageError

RESPONSE_TIMEOUT = 30.0  # seconds, for a scheduler, or for a worker that has finished a task
CLOSE_TIMEOUT = 5.0  # seconds


@contextmanager
def connect_client(address: Any, security: Security | None) -> Iterator[Client]:
    """Yield a client of the scheduler at `address`, and close it in the end."""
    try:
        client = Client(
            address, security=security, timeout=RESPONSE_TIMEOUT, direct_to_workers=True, set_as_default=False
        )
    except (OSError, ValueError, TypeError) as error:
        raise SchedulerLostError(
            f"The scheduler {address} does not answer: {str(error).splitlines()[0]}",
            hint="check the address, and for tls:// the certificates.",
        ) from error
    client_log = logging.getLogger("distributed.client")
    level = client_log.level
    try:
        yield client
    finally:
        client_log.setLevel(logging.CRITICAL)  # a lost scheduler is raised as SchedulerLostError, not logged by Dask
        client.close(timeout=CLOSE_TIMEOUT)
        client_log.setLevel(level)


def tls_security(settings: ClusterConfig) -> Security | None:
    """Return the TLS files for a tls:// scheduler, None for a tcp:// one.

    Raises
    ------
    UsageError
        If files are missing for a tls:// address, or given for another one.
    """
    files = {"ca": settings.tls_ca, "cert": settings.tls_cert, "key": settings.tls_key}
    if not str(settings.scheduler).startswith("tls://"):
        if any(files.values()):
            raise UsageError(f"TLS files were given, but the scheduler {settings.scheduler} is not a tls:// address.")
        return None
    missing = [name for name, path in files.items() if path is None or not Path(path).is_file()]
    if missing:
        raise UsageError(f"The scheduler {settings.scheduler} needs the TLS files --tls-{', --tls-'.join(missing)}.")
    return Security(
        tls_ca_file=settings.tls_ca, tls_client_cert=settings.tls_cert, tls_client_key=settings.tls_key,
        require_encryption=True,
    )  # fmt: skip
