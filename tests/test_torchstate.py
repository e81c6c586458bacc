"""What torch keeps for a whole process is borrowed in turns, and is the caller's again whatever happens."""

import contextlib
import os
import sys
import threading

import pytest
import torch
from torch import nn

from vsc.torchstate import Noise, cpu_threads, flush_denormals, modes, seeded


def drawn(seed, turns, out):
    noise = Noise(seed)
    for _ in range(turns):
        with noise.turn():
            out.append(torch.randn(30).sum().item())


def test_a_seed_draws_what_torch_draws_from_it_and_the_caller_draws_on(seed):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(seed)
    first, second = torch.rand(2), torch.rand(2)
    torch.manual_seed(seed)
    assert torch.equal(torch.rand(2), first)
    with seeded(7):
        assert torch.equal(torch.rand(3), expected)
    assert torch.equal(torch.rand(2), second)


def test_turns_go_on_where_the_last_one_ended():
    noise, parts = Noise(3), []
    for _ in range(2):
        with noise.turn():
            parts.append(torch.rand(2))
        torch.rand(5)
    with seeded(3):
        assert torch.equal(torch.cat(parts), torch.cat([torch.rand(2), torch.rand(2)]))


def test_threads_draw_what_each_would_draw_alone():
    alone, together = [[], [], []], [[], [], []]
    for i, out in enumerate(alone):
        drawn(i, 300, out)
    before = torch.get_rng_state()
    threads = [threading.Thread(target=drawn, args=(i, 300, out)) for i, out in enumerate(together)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone
    assert torch.equal(torch.get_rng_state(), before)


def test_a_turn_that_fails_gives_everything_back_and_may_hold_another():
    before, noise = torch.get_rng_state(), Noise(1)
    torch.set_default_dtype(torch.float64)
    try:
        with contextlib.suppress(ZeroDivisionError), noise.turn(), noise.turn(), seeded(2):
            assert torch.rand(1).dtype == torch.float32
            raise ZeroDivisionError
        assert torch.rand(0).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(torch.get_rng_state(), before)
    with seeded(0):  # free again
        pass


def flushed():
    least = sys.float_info.min
    return least * 0.5 == 0.0


@pytest.mark.parametrize("mine", [False, True])
def test_modes_are_those_of_plain_torch_inside_and_the_callers_outside(mine):
    torch.set_flush_denormal(mine)
    torch.set_default_device("meta")
    try:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            with modes(gradients=True):
                x = torch.ones(2, 2, requires_grad=True)
                assert (x @ x).sum().grad_fn is not None
                assert (x @ x).dtype == torch.float32
                assert x.device.type == "cpu"
                assert flushed()
            assert torch.is_inference_mode_enabled()
            assert torch.ones(1).device.type == "meta"
            assert flushed() == mine
    finally:
        torch.set_default_device(None)
        torch.set_flush_denormal(False)


def test_a_whole_command_flushes_denormals():
    flush_denormals()
    assert flushed()
    torch.set_flush_denormal(False)


@pytest.mark.parametrize(("width", "inside"), [(10, 1), (1000, 3)])
def test_small_models_use_one_thread_and_the_caller_has_his_again(width, inside):
    torch.set_num_threads(3)
    with cpu_threads(nn.Linear(width, width)):
        assert torch.get_num_threads() == inside
    assert torch.get_num_threads() == 3


def test_threads_that_train_at_once_leave_the_number_as_it_was():
    torch.set_num_threads(2)
    first, second, found = threading.Event(), threading.Event(), []

    def inner():
        with cpu_threads(nn.Linear(1000, 1000)):  # begins while the number is 1
            found.append(torch.get_num_threads())
            first.set()
            second.wait(10)
        found.append(torch.get_num_threads())

    with cpu_threads(nn.Linear(2, 2)):
        thread = threading.Thread(target=inner)
        thread.start()
        first.wait(10)
    second.set()
    thread.join()
    assert found == [2, 2]
    assert torch.get_num_threads() == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_does_not_wait_for_its_parents_threads():
    """The turn is taken, and torch's threads are at work, at the moment of the fork."""
    taken, go = threading.Event(), threading.Event()

    def hold():
        with Noise(0).turn():
            taken.set()
            go.wait(10)

    torch.set_num_threads(2)
    large = torch.rand(600, 600)
    large @ large
    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait(10)
    child = os.fork()
    if child == 0:
        with modes(gradients=False), seeded(1), cpu_threads(nn.Linear(1000, 1000)):
            os._exit(0 if torch.isfinite(large @ large).all() else 1)
    go.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
