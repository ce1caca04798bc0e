"""Ports on this machine: find free ones, and say who holds a taken one."""

import contextlib
import socket

import psutil

from embedded.errors import UserError

LOOPBACK = "127.0.0.1"


def free_port() -> int:
    """A TCP port on the loopback interface that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return probe.getsockname()[1]


def accepts_connections(port: int) -> bool:
    """Whether something on this machine accepts connections on the port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((LOOPBACK, port)) == 0


def require_free(port: int, purpose: str, setting: str) -> None:
    """Check that a port can be listened on.

    Args:
        port: the port.
        purpose: what needs it, for the message.
        setting: the environment variable that changes it.

    Raises:
        UserError: it is taken; the message names the process that holds it, where that can be found out.
    """
    with socket.socket() as probe:
        # As servers do: a connection of an earlier run that is still closing is no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except PermissionError:
            raise UserError(
                f"Port {port} for {purpose} is reserved for the administrator: set {setting} to a port above 1023.", 2
            ) from None
        except OSError:
            raise UserError(
                f"Port {port} for {purpose} is taken{_holder(port)}: stop that program, or set {setting} to a "
                "free port.",
                2,
            ) from None


def _holder(port: int) -> str:
    """`` by java (process 17)`` or, where the system does not tell, an empty text."""
    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections(kind="tcp"):
            if connection.laddr and connection.laddr.port == port and connection.status == psutil.CONN_LISTEN:
                if connection.pid is None:
                    return ""
                return f" by {psutil.Process(connection.pid).name()} (process {connection.pid})"
    return ""
