"""Shorter trials keep what makes the run sick: few steps stay few, and schedules are shares of the training."""

import itertools

import pytest
from response import settings_with

from project.studies.explain.sizes import KEPT_STEPS, WHOLE, num_steps, resize, sizes


def steps_of(settings: dict, size, num_train: int) -> int:  # type: ignore[no-untyped-def, type-arg]
    return num_steps(resize(settings, size), size.num_train or num_train)


def test_the_run_itself_comes_first() -> None:
    settings = settings_with()
    assert sizes(settings, 10_000)[0] == WHOLE
    assert resize(settings, WHOLE) == settings


def test_a_run_of_few_steps_keeps_them() -> None:
    settings = settings_with("--data.batch_size=8192", "--trainer.max_epochs=10", "--data.num_train=55000")
    found = sizes(settings, 55_000)
    assert steps_of(settings, WHOLE, 55_000) == 60
    kept = [size for size in found if size.epochs_divisor == 1]
    assert len(kept) > 3
    assert {steps_of(settings, size, 55_000) for size in kept} == {60}


def test_a_run_of_many_steps_keeps_its_batches() -> None:
    settings = settings_with("--trainer.max_epochs=15")
    for size in sizes(settings, 55_000):
        if steps_of(settings, size, 55_000) >= 2 * KEPT_STEPS:
            assert resize(settings, size)["data.batch_size"] == 256


@pytest.mark.parametrize("flags", [[], ["--data.batch_size=4"], ["--trainer.max_steps=7"], ["--trainer.max_epochs=1"]])
def test_each_size_costs_less_than_the_one_before(flags: list[str]) -> None:
    settings = settings_with(*flags)
    passes = [
        steps_of(settings, size, 10_000) * resize(settings, size)["data.batch_size"] for size in sizes(settings, 10_000)
    ]
    assert all(less <= more for more, less in itertools.pairwise(passes))
    assert len(passes) < 30


def test_parts_of_a_batch_stay_whole() -> None:
    settings = settings_with("--data.batch_size=300", "--trainer.accumulate_grad_batches=3")
    for size in sizes(settings, 10_000):
        assert resize(settings, size)["data.batch_size"] % 3 == 0


def test_limits_count_as_the_trainer_counts_them() -> None:
    assert num_steps(settings_with(), 10_000) == 5 * 39
    assert num_steps(settings_with("--trainer.max_steps=20"), 10_000) == 20
    assert num_steps(settings_with("--trainer.limit_train_batches=4"), 10_000) == 20
    assert num_steps(settings_with("--trainer.limit_train_batches=0.5"), 10_000) == 5 * 19
