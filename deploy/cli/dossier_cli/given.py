"""What the environment gives an operator's command: addresses, and names of files with secrets."""

import os
from pathlib import Path

from dossier_cli.errors import Refused
from dossier_common.tls import Tls


def variable(name: str, meaning: str) -> str:
    """The variable's value. Raises Refused where it is not set."""
    value = os.environ.get(name, "")
    if not value:
        raise Refused(f"{name} is not set: it names {meaning}")
    return value


def secret(path: Path, named_by: str) -> str:
    """The content of a file with a secret, without white space around it.

    Raises Refused where there is none, and names what says where it is looked for.
    """
    try:
        content = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise Refused(f"{path} cannot be read ({error.strerror}): {named_by} says where it is") from error
    except UnicodeDecodeError as error:
        raise Refused(f"{path} is no text: it has to hold a password") from error
    if not content:
        raise Refused(f"{path} is empty: it has to hold a password")
    return content


def secret_of(name: str, meaning: str) -> str:
    """The secret in the file that this variable names. Raises Refused."""
    return secret(Path(variable(name, f"the file with {meaning}")), name)


def tls(*, certificate: Path | None = None, key: Path | None = None) -> Tls:
    """TLS towards servers, which are verified by DOSSIER_CA_FILE, or else by what the system trusts.

    Raises Refused for a file that cannot be used.
    """
    ca = os.environ.get("DOSSIER_CA_FILE")
    contexts = Tls(ca=Path(ca) if ca else None, certificate=certificate, key=key)
    try:
        contexts.examine()
    except OSError as error:
        raise Refused(f"{error.filename} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise Refused(str(error)) from error
    return contexts
