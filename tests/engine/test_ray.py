import math
import operator
import os
from functools import partial

import pytest

from cytolabe.engine import RayEngine
from cytolabe.engine import ray as on_ray
from cytolabe.errors import WorkerDiedError

pytestmark = [pytest.mark.slow]


@pytest.fixture(scope="module")
def engine():
    pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
        patch.setattr(on_ray, "_MAX_RETRIES", 1)
        # Another cluster is the one that this machine would be offered; without an address nobody asked for it.
        patch.setenv("RAY_ADDRESS", "127.0.0.1:1")
        with RayEngine(2) as started:
            yield started


@pytest.mark.filterwarnings("ignore")
def test_a_task_that_kills_its_worker_gets_its_own_result_and_the_others_go_on(engine):
    tasks = [partial(math.sqrt, 4.0), partial(os._exit, 9), partial(math.sqrt, 9.0)]
    seen = []
    results = engine.map(
        operator.call,
        tasks,
        on_done=lambda done, total: seen.append((done, total)),
        on_crash=lambda task: -float(task.args[0]),
    )
    assert results == [2.0, -9.0, 3.0]
    assert seen == [(1, 3), (2, 3)]


@pytest.mark.filterwarnings("ignore")
def test_without_an_answer_to_it_or_where_all_die_the_run_stops(engine):
    with pytest.raises(WorkerDiedError, match="its worker or node died"):
        engine.map(operator.call, [partial(os._exit, 9), partial(math.sqrt, 4.0)])
    with pytest.raises(WorkerDiedError):
        engine.map(os._exit, [3, 3], on_crash=abs)


@pytest.mark.filterwarnings("ignore")
def test_what_a_task_raises_keeps_its_type(engine):
    with pytest.raises(ValueError, match=r"math domain|nonnegative"):
        engine.map(math.sqrt, [4.0, -1.0])
