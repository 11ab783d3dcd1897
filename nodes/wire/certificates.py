"""The certificates of one run: an authority that exists for a moment, and one short-lived certificate a host.

    issue(folder / "certificates", "run-7", [Holder("ue1", "10.0.0.1", ("phone",))], begin, end)

writes `ca.pem`, and for each host `<name>.pem` and `<name>.key` (mode 0600, in a folder of 0700). The authority's own
key is never written: nobody can add a host later. Name and roles are URIs, `testbed://RUN/ROLE/NAME`; the address
makes the certificate one of a place. Made outside, before the run; what reads them is nodes/wire/tls.py.

Keys come by chance, or from a seed where a run shall repeat to the bit: a signature's length follows from its bytes,
and the time on a link from its length. Whoever knows the seed knows these keys.
"""

import hmac
import os
from collections.abc import Iterable
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from nodes.wire.tls import AUTHORITY, Holder, uri

EARLY = timedelta(hours=1)  # clocks that go a little behind
CURVE = ec.SECP256R1()
KEYS = 2**255  # below the order of the curve
SERIAL_BYTES = 20  # at most (RFC 5280)


class Authority:
    """Signs for one run, valid from `begin` (aware) to `end`. All keys follow from `seed`; None: from chance."""

    def __init__(self, run: str, begin: datetime, end: datetime, seed: bytes | None = None) -> None:
        self.run, self.begin, self.end = run, begin, end
        self._seed = seed
        self._key = self.new_key("")
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"testbed {run}"[:64])])
        own = self._key.public_key()
        self.certificate = (
            self._builder(self._name, "", own)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(own), critical=False)
            .sign(self._key, hashes.SHA256(), ecdsa_deterministic=seed is not None)
        )

    def new_key(self, name: str) -> ec.EllipticCurvePrivateKey:
        """The key of a host; the authority's has no name."""
        if self._seed is None:
            return ec.generate_private_key(CURVE)
        return ec.derive_private_key(1 + int.from_bytes(_drawn(self._seed, f"key:{name}")) % (KEYS - 1), CURVE)

    def sign(self, holder: Holder, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
        names = [x509.UniformResourceIdentifier(uri(self.run, role, holder.name)) for role in holder.roles]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, holder.name)])
        uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return (
            self._builder(subject, holder.name, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([*names, x509.IPAddress(ip_address(holder.ip))]), critical=False)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            .add_extension(issuer, critical=False)
            .sign(self._key, hashes.SHA256(), ecdsa_deterministic=self._seed is not None)
        )

    def _builder(self, subject: x509.Name, name: str, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        seed = self._seed
        serial = x509.random_serial_number() if seed is None else _serial(_drawn(seed, f"serial:{name}"))
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public)
            .serial_number(serial)
            .not_valid_before(self.begin - EARLY)
            .not_valid_after(self.end)
        )


def issue(folder: Path, authority: Authority, holders: Iterable[Holder]) -> None:
    """Everything that the hosts of a run need. The folder must not exist yet."""
    folder.mkdir(mode=0o700)
    _write(folder / AUTHORITY, _pem(authority.certificate))
    for holder in holders:
        save(folder, authority, holder)


def save(folder: Path, authority: Authority, holder: Holder) -> None:
    """One host's certificate and key."""
    key = authority.new_key(holder.name)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write(folder / f"{holder.name}.key", secret)
    _write(folder / f"{holder.name}.pem", _pem(authority.sign(holder, key)))


def _drawn(seed: bytes, what: str) -> bytes:
    """32 bytes that follow from the seed, others for each `what`."""
    return hmac.digest(seed, what.encode(), "sha256")


def _serial(drawn: bytes) -> int:
    return int.from_bytes(drawn[:SERIAL_BYTES]) >> 1  # positive, as one by chance is


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _write(path: Path, data: bytes) -> None:
    """Nobody else can read it at any moment."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
