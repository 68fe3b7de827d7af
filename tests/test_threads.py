"""How many threads a run computes with: by its network and what it may use, and the same when it is resumed."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import dask.system
import psutil
import pytest
import torch
from conftest import ROOT
from finished import small_flags, stop

from project import threads
from project.errors import InputError
from project.network.layers import num_products
from project.runs.build import build_run
from project.runs.parser import parse_settings
from project.runs.saving import platform_differences
from project.runs.saving.platform_differences import usable_cores
from project.runs.train import train


@pytest.fixture(autouse=True)
def eight(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of eight cores, on which nobody has chosen a number."""
    for name in threads.CHOSEN_BY_USER:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, "_usual_threads", lambda: 8)


def test_a_small_network_gets_one_thread_and_no_network_gets_more_than_there_are() -> None:
    share = threads.PRODUCTS_PER_THREAD
    assert [threads.auto_threads(n, 8) for n in (1, share, 2 * share, 3 * share + 1, 100 * share)] == [1, 1, 2, 3, 8]
    assert [threads.auto_threads(100 * share, 8, num_processes) for num_processes in (2, 3, 16)] == [4, 3, 1]


def test_what_the_user_has_set_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    assert threads.auto_threads(1, 2) == 8


def test_usable_cores_are_those_that_dask_finds() -> None:
    assert usable_cores() == dask.system.cpu_count()


@pytest.mark.skipif(not hasattr(psutil.Process, "cpu_affinity"), reason="this system has no affinity")
def test_an_affinity_mask_is_a_bound() -> None:
    code = "import psutil; psutil.Process().cpu_affinity([0])\n"
    code += "from project.runs.saving.platform_differences import usable_cores; print(usable_cores())"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert told.stdout == "1\n"


@pytest.mark.parametrize(
    ("files", "groups", "expected"),
    [
        ({"app/cpu.max": "150000 100000"}, "0::/app", 1.5),
        ({"app/cpu.max": "max 100000"}, "0::/app", math.inf),
        ({"app/in/cpu.max": "max 100000", "app/cpu.max": "50000 100000"}, "0::/app/in", 0.5),
        ({"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, "4:cpu,cpuacct:/docker/1\n0::/", 2.0),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, "4:cpu,cpuacct:/\n0::/", math.inf),
        ({}, "0::/", math.inf),
    ],
)
def test_the_quota_of_a_control_group(tmp_path: Path, files: dict[str, str], groups: str, expected: float) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content + "\n")
    (tmp_path / "cgroup").write_text(groups + "\n")
    assert platform_differences._quota(tmp_path, tmp_path / "cgroup") == expected


@pytest.mark.parametrize(
    ("given", "expected"), [({}, None), ({"OMP_WAIT_POLICY": "active"}, None), ({"GOMP_SPINCOUNT": "7"}, "7")]
)
def test_waiting_is_bounded_before_torch_is_loaded(given: dict[str, str], expected: str | None) -> None:
    code = "import project, os, sys; print(os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules)"
    env = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, env=env | given
    )
    assert told.stdout == f"{expected if given else threads.SPINS} False\n"


def test_products_are_counted_as_by_torch(idx_folder: Path, tmp_path: Path) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    for network in ("mlp", "residual_mlp"):
        flags = [*small_flags(idx_folder, tmp_path), f"--model.network={network}", f"--run_name={network}"]
        module = build_run(parse_settings(flags)).module.eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            module.network(torch.zeros(1, 72))
        assert 2 * num_products(module.network, 72) == counter.get_total_flops()


def test_a_resumed_run_has_the_threads_that_it_began_with(
    idx_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = torch.get_num_threads()
    try:
        folder = stop([*small_flags(idx_folder, tmp_path), "--threads=2"], 3)
        assert json.loads((folder / "provenance.json").read_text())["hardware"]["torch_threads"] == 2
        torch.set_num_threads(1)
        monkeypatch.setattr(threads, "_usual_threads", lambda: 1)
        with pytest.raises(InputError, match="threads"):
            build_run(parse_settings(["--resume", str(folder), "--threads=1"]))
        run = build_run(parse_settings(["--resume", str(folder)]))
        train(run)
        assert (run.num_threads, torch.get_num_threads()) == (2, 2)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("number", [0, -1, threads.MAX_THREADS + 1])
def test_a_number_of_threads_that_makes_no_sense_is_refused(idx_folder: Path, tmp_path: Path, number: int) -> None:
    with pytest.raises(InputError, match="threads"):
        parse_settings([*small_flags(idx_folder, tmp_path), f"--threads={number}"])
