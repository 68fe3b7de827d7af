"""Which clusters a study may use."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from project.errors import InputError
from project.studies.running.cluster import _checked, connect


@pytest.mark.parametrize("address", ["127.0.0.1:8786", "tcp://127.0.0.1:8786", "tcp://[::1]:8786", "tls://a.example:1"])
def test_this_machine_and_tls_need_no_permission(address: str) -> None:
    assert _checked(address, insecure=False).endswith(address)


@pytest.mark.parametrize("address", ["tcp://192.0.2.7:8786", "192.0.2.7:8786", "tcp://0.0.0.0:8786"])
def test_another_machine_without_tls_needs_one(address: str, tmp_path: Path) -> None:
    file = tmp_path / "scheduler.json"
    file.write_text(json.dumps({"address": address}))
    for scheduler in (address, str(file)):
        with pytest.raises(InputError, match="TLS"):
            _checked(scheduler, insecure=False)
        assert _checked(scheduler, insecure=True).endswith(address)


@pytest.mark.parametrize("address", ["nothing", "tcp://host", "http://127.0.0.1:80", "inproc://1/2/3:4", "tcp://:9"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(InputError, match="--scheduler"):
        _checked(address, insecure=True)


def test_a_scheduler_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("project.studies.running.cluster.CONNECT_S", 1)
    with pytest.raises(InputError, match=r"127\.0\.0\.1:1 cannot be reached"), connect(1, "tcp://127.0.0.1:1"):
        pass


def test_a_studys_own_process_loads_no_torch() -> None:
    code = (
        "import sys; sys.path.insert(0, '.')\n"
        "from project.studies.running.engine import run_study\n"
        "from project.studies.reporting.write import write_report\n"
        "print([name for name in ('torch', 'pytorch_lightning') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
