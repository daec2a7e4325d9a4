"""The service under uvicorn."""

import socket
from pathlib import Path

import typer

from micrec.errors import MicrecError

BACKLOG = 2048  # connections that wait to be taken, as uvicorn's own


def serve(folder: Path, *, host: str, port: int, watch_s: float, most: int) -> None:
    """Serve a bundle folder until the process is told to end; requests under way are answered first.

    Args:
        folder: A folder that ``micrec index`` wrote.
        host: Address to listen at.
        port: Port to listen at; 0 for a free one, which a line on stderr names.
        watch_s: Seconds between looks for a newer bundle; 0: only when it is told.
        most: Most requests that one search answers.

    Raises:
        MicrecError: If the folder holds no bundle, the address is taken, or packages of the extra are missing.
    """
    try:
        import uvicorn

        from micrec.serving.app import create_app
    except ModuleNotFoundError as fault:
        if fault.name in ("fastapi", "uvicorn", "prometheus_client"):
            raise MicrecError(f'micrec serve needs {fault.name}: pip install "micrec[serve]".') from None
        raise
    listening = _listen(host, port)
    with listening:
        app = create_app(folder, watch_s=watch_s, most=most)
        listening.listen(BACKLOG)  # from this line on, whoever asks is answered
        typer.echo(f"serving {folder} on {_address(listening)}", err=True)
        uvicorn.Server(uvicorn.Config(app, access_log=False)).run(sockets=[listening])


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _listen(host: str, port: int) -> socket.socket:
    """A socket at the address, bound before the bundle is read.

    Raises:
        MicrecError: If there is no such address, or its port is taken.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except (OSError, OverflowError) as fault:
        raise MicrecError(f"--host {host} --port {port}: cannot be listened at ({fault}): choose others.") from None
    return listening
