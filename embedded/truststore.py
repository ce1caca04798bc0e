"""Let a bundled Java trust the certificate authorities that this machine trusts.

A Java that came as a wheel brings its own list and knows nothing of the machine's: behind a proxy that re-signs
TLS, downloads would fail although every other program here works.
"""

import os
import ssl
import warnings
from collections.abc import Mapping
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12

PASSWORD = "changeit"  # noqa: S105 - it protects nothing: the store holds public certificates only, Java wants one


def certificate_bundle(environment: Mapping[str, str] = os.environ) -> Path | None:
    """The PEM file with this machine's certificate authorities, or None where none is to be found."""
    candidates = [environment.get("SSL_CERT_FILE"), environment.get("REQUESTS_CA_BUNDLE")]
    candidates.append(ssl.get_default_verify_paths().cafile)
    return next((Path(name) for name in candidates if name and Path(name).is_file()), None)


def write_truststore(bundle: Path, destination: Path) -> int:
    """Write the certificates of a PEM bundle as a PKCS #12 trust store that Java reads.

    Returns:
        the number of certificates.
    """
    with warnings.catch_warnings():
        # Some authorities that every machine trusts have serial numbers that newer rules forbid.
        warnings.simplefilter("ignore")
        certificates = x509.load_pem_x509_certificates(bundle.read_bytes())
    entries = [pkcs12.PKCS12Certificate(one, f"ca-{number}".encode()) for number, one in enumerate(certificates)]
    encryption = BestAvailableEncryption(PASSWORD.encode())
    destination.write_bytes(pkcs12.serialize_java_truststore(entries, encryption))
    return len(entries)


def truststore_options(directory: Path, environment: Mapping[str, str] = os.environ) -> list[str]:
    """Build a trust store in ``directory`` and return the Java options that name it (none if there is no bundle)."""
    bundle = certificate_bundle(environment)
    if bundle is None:
        return []
    store = directory / "truststore.p12"
    if write_truststore(bundle, store) == 0:
        return []
    return [
        f"-Djavax.net.ssl.trustStore={store}",
        f"-Djavax.net.ssl.trustStorePassword={PASSWORD}",
        "-Djavax.net.ssl.trustStoreType=PKCS12",
    ]
