"""Training leaves its caller as it was, and is the same whatever the caller does, elsewhere in the process too."""

import os
import random
import signal
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

import vsc
from vsc.data.batches import Batches
from vsc.errors import Busy, Interrupted
from vsc.settings.config import Config, DataConfig, ModelConfig, TrainConfig
from vsc.training import runs
from vsc.training.loop import train

SETTINGS = Config(
    DataConfig("tiny"),
    ModelConfig("vsc", latent_dim=4, hidden=(16,), likelihood="bernoulli"),
    TrainConfig(steps=30, batch_size=16, log_every=10, valid_every=10, device="cpu"),
)


def seeds(n):
    return [replace(SETTINGS, train=replace(SETTINGS.train, seed=seed)) for seed in range(n)]


def equal(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def state():
    """Return all that a caller may not find changed."""
    least = sys.float_info.min
    return {
        "torch": torch.get_rng_state().tolist(),
        "numpy": np.random.get_state()[1].tolist(),
        "python": random.getstate(),
        "threads": torch.get_num_threads(),
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "gradients": torch.is_grad_enabled(),
        "denormals": least * 0.5 != 0.0,
        "handlers": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
    }


def fail(*_):
    raise ZeroDivisionError


@pytest.fixture(scope="module")
def plain(tiny):
    return train(tiny, SETTINGS)


@pytest.mark.parametrize("watch", [None, fail])
def test_the_caller_is_as_before_also_after_an_exception(tiny, tmp_path, watch):
    before = state()
    if watch is None:
        train(tiny, SETTINGS, tmp_path / "run")
        runs.load(tmp_path / "run")
    else:
        with pytest.raises(ZeroDivisionError):
            train(tiny, SETTINGS, tmp_path / "run", watch=watch)
    assert state() == before


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_default_dtype_does_not_reach_training(tiny, tmp_path, plain, dtype):
    torch.set_default_dtype(dtype)
    try:
        assert equal(train(tiny, SETTINGS, tmp_path / "run"), plain)
        assert equal(runs.load(tmp_path / "run"), plain)
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_default_device_does_not_reach_training(tiny, tmp_path, plain):
    torch.set_default_device("meta")
    try:
        assert equal(train(tiny, SETTINGS, tmp_path / "run"), plain)
        assert equal(runs.load(tmp_path / "run"), plain)
    finally:
        torch.set_default_device(None)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu", torch.bfloat16)])
def test_training_works_within_any_mode_and_gives_usable_weights(tiny, tmp_path, plain, mode):
    with mode():
        model = train(tiny, SETTINGS, tmp_path / "run")
        loaded = runs.load(tmp_path / "run")
    assert equal(model, plain)
    for one in (model, loaded):
        (-one(one.scaler(tiny.test.x)).elbo.mean()).backward()
        assert all(w.grad is not None for w in one.encoder.parameters())


@pytest.mark.filterwarnings("ignore::vsc.errors.Caution")
def test_threads_train_and_evaluate_at_once_as_if_alone(tiny):
    settings = seeds(3)
    alone = [train(tiny, one) for one in settings]
    scores = vsc.evaluate(alone[0], tiny)
    found, measured = {}, []

    def measure():
        measured.extend(vsc.evaluate(alone[0], tiny) for _ in range(3))

    def run(i):
        found[i] = train(tiny, settings[i])

    before = state()
    threads = [threading.Thread(target=run, args=(i,)) for i in range(3)] + [threading.Thread(target=measure)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(equal(found[i], alone[i]) for i in range(3))
    assert measured == [scores] * 3
    assert state() == before


def test_a_folder_in_which_another_thread_trains_is_refused_and_left_alone(tiny, tmp_path, plain):
    refused = []

    def second(row):
        def intrude():
            try:
                train(tiny, SETTINGS, tmp_path / "run", overwrite=True)
            except Busy as error:
                refused.append(str(error))

        thread = threading.Thread(target=intrude)
        thread.start()
        thread.join()

    model = train(tiny, SETTINGS, tmp_path / "run", watch=second)
    assert refused == [f"another thread is at work in {tmp_path / 'run'}; wait for it, or choose another folder"] * 3
    assert equal(model, plain)
    assert equal(runs.load(tmp_path / "run"), plain)


def test_what_a_watcher_draws_is_the_callers(tiny, plain):
    drawn = []
    torch.manual_seed(5)
    expected = [torch.rand(1).item() for _ in range(3)]
    torch.manual_seed(5)
    assert equal(train(tiny, SETTINGS, watch=lambda row: drawn.append(torch.rand(1).item())), plain)
    assert drawn == expected


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_trains_after_its_parent(tiny):
    torch.set_num_threads(2)
    large = replace(SETTINGS, model=replace(SETTINGS.model, hidden=(2000,)), train=replace(SETTINGS.train, steps=2))
    train(tiny, large)
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        torch.set_num_threads(2)
        train(tiny, large)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def stop_while_training(data, folder):
    fetch = Batches.__call__

    def fetch_and_stop(self, step):
        if step == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return fetch(self, step)

    Batches.__call__ = fetch_and_stop
    train(data, SETTINGS, folder)


def test_a_pool_worker_that_is_asked_to_end_stops_cleanly(tiny, tmp_path):
    with ProcessPoolExecutor(1) as pool:
        stop = pool.submit(stop_while_training, tiny, tmp_path / "run").exception()
        assert isinstance(stop, Interrupted)
        assert (stop.code, stop.reached) == (143, "stopped at step 5 of 30")
        assert pool.submit(int, "7").result() == 7
    assert runs.load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")["progress"]["step"] == 5
