"""`dossier-health PART web|worker`: is the process in this container ready? For health checks: quick, and light.

It asks `/readyz` over the loopback address, with the part's settings from the environment, and ends with 0 when the
answer is 200, with 1 when it is not or there is none (one line says which), and with 2 for a wrong call. It imports
nothing but a little of the standard library, since it runs every few seconds beside each process.
"""

import os
import socket
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SECONDS: Final = 5.0
PORTS: Final = {"web": ("LISTEN_PORT", 8000), "worker": ("WORKER_PORT", 8001)}
"""Setting and default of each kind's port; the same as in `dossier_common.settings`."""
LOOPBACK: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # where a listener on all is found
LONGEST: Final = 4096


class NotReady(Exception):
    """What was answered, or why nothing was."""


def check(part: str, kind: str, environment: "Mapping[str, str]") -> None:
    """Returns when the process is ready. Raises NotReady; ValueError for a port that is no number."""
    prefix = f"DOSSIER_{part.upper()}_"
    name, default = PORTS[kind]
    listening = environment.get(f"{prefix}LISTEN_HOST", "127.0.0.1")
    address = (LOOPBACK.get(listening, listening), int(environment.get(prefix + name) or default))
    certificate = environment.get(f"{prefix}TLS_CERTIFICATE_FILE")
    key = environment.get(f"{prefix}TLS_KEY_FILE")
    try:
        with socket.create_connection(address, timeout=SECONDS) as connection:
            if certificate and key:
                with _secured(connection, certificate, key) as secured:
                    answer = _asked(secured)
            else:
                answer = _asked(connection)
    except OSError as error:
        raise NotReady(f"port {address[1]} does not answer: {error.strerror or error}") from error
    head, _, body = answer.partition(b"\r\n\r\n")
    if head.split(b" ", 2)[1:2] != [b"200"]:
        line = head.split(b"\r\n", 1)[0].decode("latin-1")
        raise NotReady(f"{line or 'closed without an answer'} {body.decode('utf-8', 'replace').strip()}".strip())


def _secured(connection: socket.socket, certificate: str, key: str) -> socket.socket:
    """TLS, with the part's own certificate where one is asked for.

    Whose certificate answers is not checked: the question goes over the loopback address of this container, carries no
    secret, and the gateway's certificate is for its public name.
    """
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(certificate, key)
    return context.wrap_socket(connection)


def _asked(connection: socket.socket) -> bytes:
    connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    answer = b""
    while len(answer) < LONGEST and (piece := connection.recv(LONGEST)):
        answer += piece
    return answer


def main(arguments: "Sequence[str] | None" = None) -> int:
    """The exit status. Without arguments it is the web process of the part that DOSSIER_SERVICE names."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if not given and (service := os.environ.get("DOSSIER_SERVICE")):
        given = [service, "web"]
    if len(given) != 2 or given[1] not in PORTS or not given[0].isalpha():
        sys.stderr.write("usage: dossier-health PART web|worker\n")
        return 2
    part, kind = given
    try:
        check(part, kind, os.environ)
    except (NotReady, ValueError) as error:
        sys.stderr.write(f"{part} {kind} is not ready: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
