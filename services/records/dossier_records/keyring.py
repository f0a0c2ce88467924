"""The `file` key provider: ring keys outside PostgreSQL, sealed by a passphrase, one file an epoch.

What is destroyed here is gone: the file is overwritten, its removal is synced, and every process asks the file
system before it uses a key that it has in memory. Source: ARCHITECTURE.md, "Secrets and destruction".
"""

import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from sqlalchemy.ext.asyncio import AsyncConnection

from dossier_common.startup import ensure_writable
from dossier_records import repository
from dossier_records.envelopes import CannotOpen
from dossier_records.settings import Settings

KEY = 32
NONCE = 12
SCRYPT_COST = 2**15
INDEX = "index"
CHECK = "check"
SETTING = "DOSSIER_RECORDS_KEYRING_DIR"


class KeyDestroyed(CannotOpen):
    """The epoch's key is not in the provider: what was wrapped under it can be read no more."""


class WrongPassphrase(Exception):
    """The passphrase does not open this key ring."""


class IndexKeyMissing(Exception):
    """Rings have keys, but the blind indexes have none: with another one, equal values would not be found equal."""


class FileKeyring:
    """Keys of rings, by name and epoch; each process has its own, over the same folder."""

    def __init__(self, folder: Path, passphrase: bytes) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._begun_with = self._salt()
        self._kek = AESGCM(Scrypt(self._begun_with, KEY, SCRYPT_COST, 8, 1).derive(passphrase))
        self._keys: dict[tuple[str, int], tuple[str, AESGCM]] = {}
        self._check_passphrase()

    def create(self, ring: str, epoch: int) -> None:
        """The epoch has a key, durable on disk; one that exists stays as it is."""
        self._store(self._path(ring, epoch), secrets.token_bytes(KEY))

    def wrap(self, ring: str, epoch: int, data_key: bytes, bound: bytes) -> bytes:
        """The data key under the epoch's key; `bound` says what it belongs to. Raises KeyDestroyed."""
        nonce = secrets.token_bytes(NONCE)
        return nonce + self._key(ring, epoch).encrypt(nonce, data_key, self._bound(ring, epoch, bound))

    def unwrap(self, ring: str, epoch: int, wrapped: bytes, bound: bytes) -> bytes:
        """Raises KeyDestroyed, or CannotOpen for another key or a changed one."""
        key = self._key(ring, epoch)
        try:
            return key.decrypt(wrapped[:NONCE], wrapped[NONCE:], self._bound(ring, epoch, bound))
        except (InvalidTag, ValueError) as error:
            raise CannotOpen from error

    def destroy(self, ring: str, epoch: int) -> None:
        """The epoch's key exists nowhere any more; repeating it does no harm."""
        path = self._path(ring, epoch)
        self._keys.pop((ring, epoch), None)
        if path.exists():
            with path.open("r+b") as file:
                file.write(secrets.token_bytes(path.stat().st_size))
                file.flush()
                os.fsync(file.fileno())
            path.unlink()
        self._sync_folder()

    def holds(self, ring: str, epoch: int) -> bool:
        """Whether the epoch's key is there."""
        return self._path(ring, epoch).exists()

    def rings(self, prefix: str) -> list[str]:
        """The rings that have a key, by the start of their names."""
        return sorted({path.name.split(".")[0] for path in self._folder.glob(f"{prefix}*.key")})

    def index_key(self) -> bytes:
        """The key of the blind indexes; made when first asked for, before any ring. Raises IndexKeyMissing."""
        path, others = self._path(INDEX, 1), set(self.rings("")) - {CHECK, INDEX}
        if others and not path.exists():  # asked in this order, since another process may be making both
            raise IndexKeyMissing(path.name)
        self._store(path, secrets.token_bytes(KEY))
        return self._open(path)

    async def lacking(self, connection: AsyncConnection) -> str:
        """Whether this is another key ring than the one that the records are sealed with (`standing.Lacking`).

        A new one, made in an empty folder, would seal and index records that the right one knows nothing of. Epochs do
        not count: an older database names such as were destroyed since.
        """
        named = await repository.rings(connection)
        if named and named.isdisjoint(self.rings("")):
            return (
                f"{SETTING}: {self._folder} holds a key of none of the {len(named)} rings that records are sealed "
                "with: mount the folder that was used before, or restore it"
            )
        salt = self._folder / "salt"
        if not salt.exists() or salt.read_bytes() != self._begun_with:
            return f"{SETTING}: {self._folder} holds other keys than when this process began: start it again"
        return ""

    def _path(self, ring: str, epoch: int) -> Path:
        if not ring.replace("-", "").replace("_", "").isalnum():
            raise ValueError("not a ring")
        return self._folder / f"{ring}.{epoch}.key"

    @staticmethod
    def _bound(ring: str, epoch: int, bound: bytes) -> bytes:
        return b"dossier-wrap-v1\n%s\n%d\n" % (ring.encode(), epoch) + bound

    def _key(self, ring: str, epoch: int) -> AESGCM:
        known = self._keys.get((ring, epoch))
        path = known[0] if known else str(self._path(ring, epoch))
        if not os.path.exists(path):  # noqa: PTH110  # asked at each use, and a Path takes ten times as long
            self._keys.pop((ring, epoch), None)
            raise KeyDestroyed
        if known is None:
            known = self._keys[ring, epoch] = (path, AESGCM(self._open(Path(path))))
        return known[1]

    def _open(self, path: Path) -> bytes:
        sealed = path.read_bytes()
        try:
            return self._kek.decrypt(sealed[:NONCE], sealed[NONCE:], path.name.encode())
        except InvalidTag as error:
            raise WrongPassphrase(path.name) from error

    def _store(self, path: Path, key: bytes) -> None:
        if path.exists():
            return
        nonce = secrets.token_bytes(NONCE)
        self._write(path, nonce + self._kek.encrypt(nonce, key, path.name.encode()))

    def _salt(self) -> bytes:
        path = self._folder / "salt"
        if not path.exists():
            self._write(path, secrets.token_bytes(16))
        return path.read_bytes()

    def _check_passphrase(self) -> None:
        path = self._path(CHECK, 1)
        self._store(path, secrets.token_bytes(KEY))
        self._open(path)

    def _write(self, path: Path, content: bytes) -> None:
        """Durable, and of two writers at once the first wins."""
        draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(draft, path)
            except FileExistsError:
                return
        finally:
            draft.unlink()
        self._sync_folder()

    def _sync_folder(self) -> None:
        descriptor = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def ensure_opens(settings: Settings) -> None:
    """Raises ValueError for a folder that cannot be written or lacks the index key, or another passphrase."""
    ensure_writable(SETTING, settings.keyring_dir)
    try:
        FileKeyring(settings.keyring_dir, settings.keyring_passphrase).index_key()
    except IndexKeyMissing as error:
        raise ValueError(f"{SETTING}: {settings.keyring_dir} lacks {error}, without which no value is found") from error
    except WrongPassphrase as error:
        raise ValueError(
            f"DOSSIER_RECORDS_KEYRING_PASSPHRASE_FILE: not the passphrase of the keys in {settings.keyring_dir}"
        ) from error
