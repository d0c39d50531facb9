"""An authority of our own, and a server's certificate signed by it, made with the `openssl` command."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple

DAYS = "2"


class Certificates(NamedTuple):
    """Files in PEM.

    Attributes
    ----------
    authority : Path
        What clients trust.
    server : Path
        Key, certificate and authority in one file, as Kafka and Python read it.
    """

    authority: Path
    server: Path


def make_certificates(directory: Path, name: str) -> Certificates:
    """Make an authority and a certificate for a server on 127.0.0.1.

    Parameters
    ----------
    name : str
        The authority's, and of its files.
    """
    authority, authority_key = directory / f"{name}-ca.pem", directory / f"{name}-ca.key"
    certificate, key = directory / f"{name}.crt", directory / f"{name}.key"
    _openssl("req", "-x509", *_new_key(authority_key), "-subj", f"/CN={name}", "-days", DAYS, "-out", str(authority))
    signed_by = ("-CA", str(authority), "-CAkey", str(authority_key))
    of_server = (
        "-subj",
        "/CN=server",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-addext",
        "basicConstraints=CA:FALSE",
    )
    _openssl("req", "-x509", *_new_key(key), *signed_by, *of_server, "-days", DAYS, "-out", str(certificate))
    server = directory / f"{name}-server.pem"
    server.write_bytes(key.read_bytes() + certificate.read_bytes() + authority.read_bytes())
    return Certificates(authority, server)


def _new_key(path: Path) -> tuple[str, ...]:
    return ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(path))


def _openssl(*arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)  # noqa: S603, S607
    assert done.returncode == 0, done.stderr
