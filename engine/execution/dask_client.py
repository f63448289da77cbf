"""Connect to a Dask scheduler, encrypted where its address is a tls:// one."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distributed import Client, Security

from engine.config import ClusterConfig
from engine.errors import SchedulerLostError, UsageError

ANSWER_SECONDS = 30.0  # that a scheduler, or a worker that has finished, may take to answer
CLOSE_SECONDS = 5.0


@contextmanager
def client_of(address: Any, security: Security | None) -> Iterator[Client]:
    """Join a scheduler, and leave it in the end."""
    try:
        client = Client(
            address, security=security, timeout=ANSWER_SECONDS, direct_to_workers=True, set_as_default=False
        )
    except (OSError, ValueError, TypeError) as error:
        raise SchedulerLostError(
            f"The scheduler {address} does not answer: {str(error).splitlines()[0]}",
            hint="check the address, and for tls:// the certificates.",
        ) from error
    chatter = logging.getLogger("distributed.client")
    level = chatter.level
    try:
        yield client
    finally:
        chatter.setLevel(logging.CRITICAL)  # a lost scheduler is our error to tell, and not a traceback
        client.close(timeout=CLOSE_SECONDS)
        chatter.setLevel(level)


def security_of(wanted: ClusterConfig) -> Security | None:
    """Return what encrypts the connection to a tls:// scheduler."""
    files = {"ca": wanted.tls_ca, "cert": wanted.tls_cert, "key": wanted.tls_key}
    if not str(wanted.scheduler).startswith("tls://"):
        if any(files.values()):
            raise UsageError(f"TLS files were given, but the scheduler {wanted.scheduler} is no tls:// address.")
        return None
    missing = [name for name, path in files.items() if path is None or not Path(path).is_file()]
    if missing:
        raise UsageError(f"The scheduler {wanted.scheduler} needs the TLS files --tls-{', --tls-'.join(missing)}.")
    return Security(
        tls_ca_file=wanted.tls_ca, tls_client_cert=wanted.tls_cert, tls_client_key=wanted.tls_key,
        require_encryption=True,
    )  # fmt: skip
