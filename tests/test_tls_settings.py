from __future__ import annotations

import os
import ssl
from pathlib import Path

import pytest
from pydantic import BaseModel
from structlog.testing import capture_logs

from engine.errors import SpecError
from engine.tls import ensure_certificates
from engine.tls_settings import ClientTls, ClientTlsKey, ServerTls, located


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "elsewhere"
    ensure_certificates(folder / "tls")
    return folder


def test_paths_lie_in_the_site_or_in_the_data_folder_of_the_run(tmp_path: Path) -> None:
    site, data = tmp_path / "site", tmp_path / "run"
    assert located(Path("data/tls/ca.pem"), site, data) == data / "tls" / "ca.pem"
    assert located(Path("own/ca.pem"), site, data) == site / "own" / "ca.pem"
    assert located(tmp_path / "ca.pem", site, data) == tmp_path / "ca.pem"


def test_a_context_is_kept_until_a_file_is_replaced(tmp_path: Path, data: Path) -> None:
    contexts = ServerTls().contexts(tmp_path, data)
    first = contexts.get()
    assert contexts.get() is first
    for name in ("server.pem", "server.key"):
        (data / "tls" / name).unlink()
    ensure_certificates(data / "tls")
    assert contexts.get() is not first


def test_a_certificate_replaced_before_its_key_does_not_stop_the_listener(tmp_path: Path, data: Path) -> None:
    contexts = ServerTls().contexts(tmp_path, data)
    first = contexts.get()
    key = data / "tls" / "server.key"
    key.write_text("not yet")
    os.utime(key, (1, 1))
    with capture_logs() as logs:
        assert contexts.get() is first
        assert contexts.get() is first
    assert [entry["event"] for entry in logs] == ["tls.not_reloaded"]


def test_files_of_the_data_folder_may_be_missing_while_a_site_is_checked(tmp_path: Path) -> None:
    contexts = ClientTls.model_validate({"ca": "data/tls/ca.pem"}).contexts(tmp_path, tmp_path / "data")
    contexts.check()
    with pytest.raises(FileNotFoundError):
        contexts.get()


def test_other_files_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as error:
        ClientTls.model_validate({"ca": "own/ca.pem"}).contexts(tmp_path, tmp_path / "data").check()
    assert error.value.at == ("tls", "ca")


def test_verification_is_on_unless_the_file_says_otherwise(tmp_path: Path, data: Path) -> None:
    trusting = ClientTls.model_validate({"verify": False}).contexts(tmp_path, data).get()
    assert trusting.verify_mode is ssl.CERT_NONE
    careful = ClientTls.model_validate({"ca": "data/tls/ca.pem"}).contexts(tmp_path, data).get()
    assert careful.verify_mode is ssl.CERT_REQUIRED
    assert careful.check_hostname


def test_true_and_false_are_short_forms() -> None:
    class Model(BaseModel):
        tls: ClientTlsKey = None

    assert Model.model_validate({"tls": True}).tls == ClientTls()
    assert Model.model_validate({"tls": False}).tls is None
