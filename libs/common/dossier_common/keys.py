"""Ed25519 keys of the parts: private from a PEM file, public as JWKs with their RFC 7638 thumbprint as `kid`."""

from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey


class SigningKey:
    """A part's own key."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self.jwk = OKPKey.import_key(pem)
        self.kid = self.jwk.thumbprint()

    @classmethod
    def read(cls, path: Path) -> "SigningKey":
        """Raises ValueError for anything but an unencrypted Ed25519 key in PKCS 8."""
        return cls.parse(path.read_bytes(), path.name)

    @classmethod
    def parse(cls, pem: bytes, name: str) -> "SigningKey":
        """The same of a content; `name` says in the error where it stood."""
        try:
            key = load_pem_private_key(pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise ValueError(f"{name}: not an unencrypted key in PEM") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError(f"{name}: not an Ed25519 key")  # noqa: TRY004  # a wrong file, not a wrong type
        return cls(key)

    @classmethod
    def generate(cls) -> "SigningKey":
        """A fresh key."""
        return cls(Ed25519PrivateKey.generate())

    def pem(self) -> bytes:
        """PKCS 8, unencrypted: for a file of mode 0600."""
        return self._private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def public_jwk(self) -> dict[str, Any]:
        """The public half, with `kid`, `alg` and `use`."""
        return {**self.jwk.as_dict(private=False), "kid": self.kid, "alg": "Ed25519", "use": "sig"}

    def public_bytes(self) -> bytes:
        """The public half, 32 bytes."""
        return self._private.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """64 bytes."""
        return self._private.sign(message)

    def derive(self, purpose: str) -> bytes:
        """A 32-byte secret of this key for one purpose (HKDF-SHA256): the key itself serves nothing else."""
        raw = self._private.private_bytes_raw()
        return HKDF(SHA256(), 32, salt=None, info=b"dossier " + purpose.encode()).derive(raw)


class VerifyingKeys:
    """Public keys of one producer; a signature by any of them holds (keys overlap while they rotate)."""

    def __init__(self, jwks: list[dict[str, Any]]) -> None:
        self._keys: list[Ed25519PublicKey] = []
        for jwk in jwks:
            try:
                public = OKPKey.import_key(jwk).public_key
            except (JoseError, KeyError) as error:
                raise ValueError("not an Ed25519 key") from error
            if not isinstance(public, Ed25519PublicKey):
                raise ValueError("not an Ed25519 key")  # noqa: TRY004  # a wrong file, not a wrong type
            self._keys.append(public)

    def holds(self, signature: bytes, message: bytes) -> bool:
        """Whether one of the keys made this signature."""
        for key in self._keys:
            try:
                key.verify(signature, message)
            except InvalidSignature:
                continue
            return True
        return False
