"""How many threads a process computes with on a CPU, and how long they wait for each other.

Each operation of a network is shared by OpenMP's threads, which spin until the last one is ready. On a machine that has
other work too, the last one waits for a processor that another one spins on. So the waiting is bounded before torch is
loaded, and small networks, which gain little by sharing, get one thread. The number of threads decides in which order
numbers are added: it depends on the network and on what this process may use, never on what the machine is doing, and a
resumed run takes the number that it began with.
"""

import math
import os
from functools import cache

SPINS = 5000
"""A thread looks so many times whether the others are ready before it sleeps. The default network takes 4 % longer with
it on a quiet machine, and 3 times as long beside a busy program (20,000: 7 times; 1,000: 2 times, but 15 % longer on a
quiet machine; two cores)."""
CHOSEN_BY_USER = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
PRODUCTS_PER_THREAD = 40_000_000
"""A further thread needs so many products of a weight and an example in a step. With fewer it gains about a fifth on a
quiet machine, and on a busy one it takes five times as long as one thread alone (two cores, 9 million products)."""
MAX_THREADS = 1024


def bound_waiting() -> None:
    """Bound the spinning of threads, unless the user has said how they wait. It must come before torch is loaded."""
    if not os.environ.keys() & {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}:
        os.environ["GOMP_SPINCOUNT"] = str(SPINS)


def auto_threads(num_products: int, cores: int, num_processes: int = 1) -> int:
    """The number of threads that suits a training, for each of its processes on this machine.

    Args:
        num_products: The weights times the examples of a step.
        cores: The cores that this process may use.
        num_processes: So many processes share the machine and the step.
    """
    usual = _usual_threads()
    if any(os.environ.get(name) for name in CHOSEN_BY_USER):
        return usual
    of_each = math.ceil(cores / num_processes)
    return max(1, min(usual, of_each, num_products // num_processes // PRODUCTS_PER_THREAD))


@cache
def _usual_threads() -> int:
    """What torch would take: its number of physical cores, or what the user has set."""
    import torch

    return torch.get_num_threads()
