"""Certificate authorities and what they sign, as PEM."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.certificates import unsigned, usage
from tests.cluster.standins.strimzi.names import ORGANIZATION

LIFETIME = timedelta(days=365)
RENEWAL = timedelta(days=30)


class Pair(NamedTuple):
    """A certificate and its key."""

    certificate: str
    key: str


def authority(name: str) -> Pair:
    """Make a certificate authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject(name)
    certificate = (
        unsigned(subject, subject, key.public_key(), LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _pair(certificate, key)


def sign(by: Pair, name: str, hosts: Sequence[str] = ()) -> Pair:
    """Make a certificate for a part of the cluster: of a client, and of a server where it has `hosts`."""
    issuer = x509.load_pem_x509_certificate(by.certificate.encode())
    issuer_key = serialization.load_pem_private_key(by.key.encode(), None)
    if not isinstance(issuer_key, ec.EllipticCurvePrivateKey):
        raise ValueError("the authority's key is of another kind than those made here")
    key = ec.generate_private_key(ec.SECP256R1())
    purposes = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if hosts else [])]
    builder = (
        unsigned(_subject(name), issuer.subject, key.public_key(), LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        # Python 3.13 takes no certificate that doesn't say whose key has signed it.
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if hosts:
        alternatives = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
        builder = builder.add_extension(alternatives, critical=False)
    return _pair(builder.sign(issuer_key, hashes.SHA256()), key)


def good(certificate: str, by: str, hosts: Sequence[str] = ()) -> bool:
    """Say whether a certificate is signed by this authority, for these hosts, and far from its end."""
    found, issuer = (x509.load_pem_x509_certificate(each.encode()) for each in (certificate, by))
    try:
        found.verify_directly_issued_by(issuer)
    except Exception:  # of several kinds: another name, another kind of key, another signature
        return False
    return set(hosts) == _hosts(found) and found.not_valid_after_utc - datetime.now(UTC) > RENEWAL


def expires(certificate: str) -> datetime:
    """Return when a certificate ends."""
    return x509.load_pem_x509_certificate(certificate.encode()).not_valid_after_utc


def _hosts(certificate: x509.Certificate) -> set[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return set()
    return set(names.value.get_values_for_type(x509.DNSName))


def _subject(name: str) -> x509.Name:
    # In this order Kafka writes it as CN=<name>,O=io.strimzi.
    attributes = [(NameOID.ORGANIZATION_NAME, ORGANIZATION), (NameOID.COMMON_NAME, name)]
    return x509.Name([x509.NameAttribute(of, value) for of, value in attributes])


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Pair(certificate.public_bytes(serialization.Encoding.PEM).decode(), key.private_bytes(*form).decode())
