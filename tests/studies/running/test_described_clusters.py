"""Clusters that a file describes: SLURM's, SSH's and Kubernetes', and what each needs to be trusted."""

import importlib
import inspect
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import pytest
import yaml
from conftest import ROOT
from distributed import LocalCluster
from distributed.security import Security
from distributed.utils import get_ip

from project.errors import InputError
from project.studies.read_study import parse_study
from project.studies.running.cluster import connect
from project.studies.running.engine import run_study
from project.studies.study import Study

FILES = ROOT / "configs" / "cluster"
LATE: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
SBATCH = """#!/bin/sh
cd '{folder}'
cp "$1" script.sh
sh "$1" >> job.log 2>&1 &
echo $! >> jobs
echo Submitted batch job $!
"""
"""What SLURM's command does, except that the job runs at once on this machine."""
SSH_SERVER = """
import asyncio, asyncssh, sys

async def execute(process):
    child = await asyncio.create_subprocess_shell(process.command, stdin=-1, stdout=-1, stderr=-1)
    await process.redirect(stdin=child.stdin, stdout=child.stdout, stderr=child.stderr)
    process.exit(await child.wait())

class Open(asyncssh.SSHServer):
    def begin_auth(self, username):
        return False

async def serve():
    key = asyncssh.generate_private_key("ssh-ed25519")
    options = {"server_host_keys": [key], "process_factory": execute, "encoding": None}
    server = await asyncssh.create_server(Open, "127.0.0.1", 0, **options)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()

asyncio.run(serve())
"""


@pytest.fixture
def study(idx_folder: Path) -> Study:
    base = {
        "data": {"dataset": "idx", "root": str(idx_folder), "num_validation": 40, "batch_size": 32},
        "model": {"width": 8},
        "trainer": {"max_epochs": 1, "accelerator": "cpu"},
    }
    return parse_study("small", {"question": "?", "base": base, "vary": {"model.depth": [0, 1]}, "seeds": 2})


@pytest.fixture
def imports_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers inherit what they need to find the project."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def written(folder: Path, name: str, adapt: dict[str, int] | None = None, **changes: Any) -> str:
    """A file of this folder with some arguments changed for the test's machine."""
    content = yaml.safe_load((FILES / f"{name}.yaml").read_text(encoding="utf-8"))
    content["init_args"] |= changes
    if adapt:
        content["adapt"] = adapt
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content))
    return str(path)


@pytest.mark.parametrize("path", sorted(FILES.glob("*.yaml")), ids=lambda path: path.stem)
def test_each_files_arguments_are_those_of_its_class(path: Path) -> None:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert content.keys() <= {"class_path", "init_args", "adapt"}
    module, _, name = content["class_path"].rpartition(".")
    kind = getattr(pytest.importorskip(module), name)
    inspect.signature(kind).bind(**content["init_args"])


def test_slurms_jobs_are_what_the_file_says(tmp_path: Path) -> None:
    kind = importlib.import_module("dask_jobqueue").SLURMCluster
    arguments = yaml.safe_load((FILES / "slurm.yaml").read_text(encoding="utf-8"))["init_args"]
    arguments |= {"scheduler_options": {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}}
    with kind(**arguments | {"shared_temp_directory": str(tmp_path)}) as cluster:
        script = cluster.job_script()
        assert cluster.scheduler_address.startswith("tls://")
    for line in ("#SBATCH -n 1", "#SBATCH --cpus-per-task=4", "#SBATCH --mem=4G", "#SBATCH -t 02:00:00"):
        assert line in script.splitlines()
    assert "export OMP_NUM_THREADS=4\n" in script
    assert "--nthreads 1 " in script
    assert "--lifetime 105m " in script
    assert f"--tls-key {tmp_path}" in script


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("imports_of_workers")
def test_a_study_runs_on_slurms_workers(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = tmp_path / "bin"
    commands.mkdir()
    (commands / "sbatch").write_text(SBATCH.format(folder=tmp_path))
    (commands / "scancel").write_text("#!/bin/sh\nkill $1\n")
    for command in commands.iterdir():
        command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    local = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    file = written(
        tmp_path, "slurm", {"minimum": 2, "maximum": 2}, shared_temp_directory=str(tmp_path), scheduler_options=local
    )
    _, records = run_study(study, tmp_path / "study", scheduler=file)
    assert [record.status for record in records] == ["completed"] * 4
    assert len((tmp_path / "jobs").read_text().split()) >= 1
    assert "--cpus-per-task=4" in (tmp_path / "script.sh").read_text()


@pytest.fixture
def ssh_port() -> Iterator[int]:
    """A server on this machine that lets everybody in."""
    with subprocess.Popen([sys.executable, "-c", SSH_SERVER], **LATE) as server:
        assert server.stdout is not None
        yield int(server.stdout.readline())
        server.kill()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("imports_of_workers")
def test_a_study_runs_on_workers_that_ssh_starts(study: Study, ssh_port: int, tmp_path: Path) -> None:
    file = written(
        tmp_path,
        "ssh",
        hosts=["127.0.0.1", "127.0.0.1"],
        remote_python=sys.executable,
        connect_options={"port": ssh_port, "known_hosts": None, "username": "anybody"},
        scheduler_options={"host": "127.0.0.1", "port": 0, "dashboard": False},
    )
    _, records = run_study(study, tmp_path / "study", scheduler=file)
    assert [record.status for record in records] == ["completed"] * 4


def test_a_scheduler_with_tls_is_reached_with_dasks_own_keys() -> None:
    security = Security.temporary()
    client = security.get_tls_config_for_role("client")
    settings = {
        "distributed.comm.tls.ca-file": client["ca_file"],
        "distributed.comm.tls.client.cert": client["cert"],
        "distributed.comm.tls.client.key": client["key"],
    }
    options: dict[str, Any] = {"protocol": "tls://", "security": security, "dashboard_address": "127.0.0.1:0"}
    with LocalCluster(1, threads_per_worker=1, processes=False, host="127.0.0.1", **options) as cluster:
        with dask.config.set(settings), connect(1, cluster.scheduler_address) as workers:
            assert workers.ask(dict, [("answer", 42)]) == {"answer": 42}
        with pytest.raises(InputError, match="cannot be reached"), connect(1, cluster.scheduler_address):
            pass


def test_a_file_that_describes_no_cluster_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    for content in ("class_path: distributed.NoCluster", "class_path: nowhere.Cluster", "{}", "class_path: os.getcwd"):
        path.write_text(content)
        with pytest.raises(InputError, match="cannot be started"), connect(1, str(path)):
            pass


def test_a_described_cluster_that_others_reach_needs_permission(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    host = get_ip()
    if host.startswith("127."):
        pytest.skip("this machine has no address for others")
    arguments: dict[str, Any] = {"n_workers": 0, "processes": False, "protocol": "tcp", "host": host}
    arguments["dashboard_address"] = "127.0.0.1:0"
    path.write_text(yaml.safe_dump({"class_path": "distributed.LocalCluster", "init_args": arguments}))
    with pytest.raises(InputError, match="TLS"), connect(1, str(path)):
        pass
