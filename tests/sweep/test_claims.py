"""The queue: each run done by one worker at a time, dead workers, failures, journal files and databases."""

import builtins
import multiprocessing
import os
import pickle
import re
import signal
import time
from itertools import pairwise

import pytest

from vsc.errors import Busy, RunError, UsageError
from vsc.settings.config import Config
from vsc.settings.presets import changed
from vsc.sweep import claims
from vsc.sweep import jobs as sweep
from vsc.sweep.claims import Queue
from vsc.training import runs

STORAGES = ["journal.log", "sqlite:///{}/trials.db"]


SMALL = {"train.steps": 20, "model.latent_dim": 3, "model.hidden": (8,), "train.valid_every": 10}


def jobs_in(folder, seeds=2):
    common = changed(Config(), SMALL)
    return [sweep.plan(f"seed {seed}", changed(common, {"train.seed": seed}), folder) for seed in range(seeds)]


@pytest.fixture(params=STORAGES, ids=["journal", "sqlite"])
def storage(request, tmp_path):
    return str(tmp_path / "journal.log") if request.param == "journal.log" else request.param.format(tmp_path)


def states(queue):
    return [(trial.user_attrs["run"], trial.state.name) for trial in queue.study.get_trials()]


def test_a_turn_is_one_workers_and_its_outcome_is_kept(storage):
    one, two = Queue(storage, "s"), Queue(storage, "s")
    one.enrol({"a": "first", "b": "second"})
    two.enrol({"a": "first", "b": "second"})
    assert states(two) == [("a", "WAITING"), ("b", "WAITING")]
    with one.turn("a") as turn:
        with pytest.raises(Busy, match=rf"a is the turn of .*, process {os.getpid()}"), two.turn("a"):
            pass
        assert re.match(r"in other hands: first: .*, process \d+; a worker that has died .* 120 s", two.elsewhere())
        with two.turn("b") as other:
            other.value = 2.0
        turn.value = 1.0
    assert one.elsewhere() == ""
    assert {name: trial.value for name, trial in one.ended().items()} == {"a": 1.0, "b": 2.0}
    with pytest.raises(Busy), two.turn("a"):  # the machine that did it may be ahead of what is seen here
        pass


def test_of_trials_that_arose_at_once_the_first_counts(storage):
    queue = Queue(storage, "s")
    for _ in range(3):
        queue._add({"run": "a"})
    with queue.turn("a") as turn:
        with pytest.raises(Busy), Queue(storage, "s").turn("a"):
            pass
        turn.value = 1.0
    assert states(queue) == [("a", "COMPLETE"), ("a", "FAIL"), ("a", "FAIL")]
    assert queue.ended()["a"].value == 1.0


def test_what_is_interrupted_waits_again_and_what_fails_does_not(storage):
    queue, other = Queue(storage, "s"), Queue(storage, "s")
    queue.enrol({"a": "a"})
    for stop in (KeyboardInterrupt, Busy, OSError, SystemExit):
        with pytest.raises(stop), queue.turn("a"):
            raise stop
        assert states(other) == [("a", "WAITING")]
    with pytest.raises(RunError, match="not finite"), queue.turn("a"):
        raise RunError("not finite")
    with pytest.raises(RunError, match="not finite"), other.turn("a"):
        pass
    other.enrol({"a": "a"})  # a new command tries again
    with other.turn("a") as turn:
        turn.value = 3.0
    assert queue.ended()["a"].value == 3.0


def test_a_dead_workers_run_is_taken_up_with_its_settings(storage):
    living = Queue(storage, "s", beat=0.05, limit=0.4)
    living.enrol({"a": "a"})
    dead = Queue(storage, "s", beat=1e6)  # gives no sign of life
    gone = dead.turn("a")
    gone.__enter__().trial.suggest_float("x", 0, 1)
    chosen = dead.study.trials[0].params
    begun = time.monotonic()
    while True:
        try:
            with living.turn("a") as turn:
                assert turn.trial.params == chosen
                turn.value = 1.0
            break
        except Busy:
            time.sleep(0.05)
    assert time.monotonic() - begun > 0.4
    assert states(living) == [("a", "FAIL"), ("a", "COMPLETE")]
    gone.__exit__(None, None, None)  # it was only suspended: what it says comes too late
    assert states(living) == [("a", "FAIL"), ("a", "COMPLETE")]


def test_a_worker_that_beats_keeps_its_run(storage):
    patient = Queue(storage, "s", beat=0.05)
    patient.enrol({"a": "a"})
    eager = Queue(storage, "s", limit=0.5)
    end = time.monotonic() + 1.2
    with patient.turn("a") as turn:
        while time.monotonic() < end:
            with pytest.raises(Busy), eager.turn("a"):
                pass
            time.sleep(0.05)
        turn.value = 1.0
    assert states(eager) == [("a", "COMPLETE")]


def test_a_turn_that_another_ends_while_its_outcome_is_told_ends_quietly(storage, monkeypatch):
    slow, other = Queue(storage, "s"), Queue(storage, "s")
    slow.enrol({"a": "a"})
    tell = slow.study._storage.set_trial_state_values

    def overtaken(*args, **kwargs):
        other._set(other.study.get_trials()[0], other.optuna.trial.TrialState.FAIL)
        return tell(*args, **kwargs)

    with slow.turn("a") as turn:
        turn.value = 1.0
        monkeypatch.setattr(slow.study._storage, "set_trial_state_values", overtaken)
    assert states(other) == [("a", "FAIL")]
    monkeypatch.undo()
    with pytest.raises(Busy), other.turn("a"):  # it waits again
        pass
    assert states(other)[-1] == ("a", "WAITING")


def test_a_run_whose_files_were_lost_is_done_again(storage):
    queue = Queue(storage, "s", limit=0.2)
    for value in (1.0, 2.0):
        queue.enrol({"a": "a"})
        with queue.turn("a") as turn:
            turn.value = value
    assert queue.ended()["a"].value == 2.0
    with pytest.raises(Busy), queue.turn("a"):
        pass
    time.sleep(0.3)
    with pytest.raises(Busy), queue.turn("a"):  # whoever asks for so long does not see the files
        pass
    assert states(queue)[-1] == ("a", "WAITING")


def test_a_queue_travels_to_another_process(storage):
    queue = pickle.loads(pickle.dumps(Queue(storage, "s", "lower", beat=3.0, limit=9.0)))
    assert (queue.study.study_name, queue.beat, queue.limit) == ("s", 3.0, 9.0)
    assert queue.study.direction.name == "MINIMIZE"


def labour(storage, names, folder, limit):
    """Do runs of 50 ms each until all have ended; note begin and end of each in a file of our own."""
    queue = Queue(storage, "s", beat=0.2, limit=limit)
    queue.enrol({name: name for name in names})
    while waiting := [name for name in names if name not in queue.ended()]:
        for name in waiting:
            try:
                with queue.turn(name) as turn:
                    begun = time.time()
                    time.sleep(0.05)
                    with (folder / str(os.getpid())).open("a") as file:  # a shared queue's lock would die with us
                        file.write(f"{name},{begun},{time.time()}\n")
                    turn.value = 1.0
            except Busy:
                time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("killed", [False, True], ids=["all live", "one is killed"])
def test_two_processes_never_do_one_run_at_once_and_together_finish_all(storage, killed, tmp_path):
    names = [f"run {i}" for i in range(12)]
    limit = 10.0 if killed else 300.0  # a busy machine's database can be silent for seconds
    context = multiprocessing.get_context("spawn")
    folder = tmp_path / "done"
    folder.mkdir()
    workers = [context.Process(target=labour, args=(storage, names, folder, limit)) for _ in range(2 + killed)]
    for worker in workers:
        worker.start()
    if killed:
        while not (folder / str(workers[0].pid)).exists() and workers[0].exitcode is None:
            time.sleep(0.01)
        os.kill(workers[0].pid, signal.SIGKILL)
    for worker in workers[killed:]:
        worker.join(120)
        assert worker.exitcode == 0
    done = [line.split(",") for file in folder.iterdir() for line in file.read_text().splitlines()]
    ended = Queue(storage, "s").ended()
    assert set(ended) == set(names)
    assert {trial.state.name for trial in ended.values()} == {"COMPLETE"}
    for name in names:
        spans = sorted((float(begun), float(end)) for run, begun, end in done if run == name)
        assert all(later[0] >= earlier[1] for earlier, later in pairwise(spans))
        assert len(spans) == 1 or killed


# ---- a sweep with a queue


def test_a_sweep_with_a_queue_trains_what_is_missing_and_tells_the_elbo(storage, tmp_path):
    jobs = jobs_in(tmp_path / "runs")
    sweep.sweep(jobs[:1], tell=lambda line: None)
    queue = Queue(storage, "s")
    lines = []
    found = sweep.sweep(jobs, tell=lines.append, queue=queue)
    assert [line.split(":")[0] for line in lines] == ["[1/1] seed 1"]
    (trial,) = queue.study.trials
    assert trial.user_attrs["label"] == "seed 1"
    assert trial.value == found[1].scores.elbo
    assert found == sweep.sweep(jobs, tell=lines.append, queue=queue)
    assert len(lines) == 1


def test_a_run_that_failed_elsewhere_is_not_waited_for(storage, tmp_path):
    job = jobs_in(tmp_path / "runs", 1)[0]
    queue = Queue(storage, "s")
    queue.enrol({job.folder.name: job.label})
    with pytest.raises(RunError), Queue(storage, "s").turn(job.folder.name):
        raise RunError("lower train.lr")
    assert list(sweep.work([job], queue=queue)) == [(job, "lower train.lr")]
    assert not runs.is_run(job.folder)
    assert sweep.sweep([job], tell=lambda line: None, queue=queue)  # asked anew, it is tried again


@pytest.mark.slow
def test_workers_with_a_queue_find_the_numbers_of_a_sweep_without(storage, tmp_path):
    one = sweep.sweep(jobs_in(tmp_path / "one", 3), tell=lambda line: None)
    two = sweep.sweep(jobs_in(tmp_path / "two", 3), workers=2, tell=lambda line: None, queue=Queue(storage, "s"))
    assert [a.scores.elbo for a in one] == pytest.approx([b.scores.elbo for b in two], rel=1e-4)


# ---- what can be wrong with a storage


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("{}/none/journal.log", "none/journal.log cannot be made: its folder does not exist"),
        ("{}/mine.csv", "mine.csv is there already and is no journal of optuna"),
        ("{}/cut.log", "optuna cannot open the journal file"),
        ("nosuch://x", "optuna cannot open the database: .*nosuch"),
        ("postgresql://me:secret@", "optuna cannot open the database"),
        ("sqlite:////none/x.db", "optuna cannot open the database: .*unable to open"),
    ],
)
def test_a_storage_that_cannot_be_opened_is_said_in_one_line(where, says, tmp_path):
    (tmp_path / "mine.csv").write_text("a,b\n1,2\n")
    (tmp_path / "cut.log").write_text('{"op_code": 0, "nothing": 1}\n')
    with pytest.raises(UsageError, match=says) as error:
        Queue(where.format(tmp_path), "s")
    assert "secret" not in str(error.value)
    assert (tmp_path / "mine.csv").read_text() == "a,b\n1,2\n"


def test_a_missing_optuna_names_the_extra(monkeypatch, tmp_path):
    real = builtins.__import__

    def without(name, *rest):
        if name == "optuna":
            raise ModuleNotFoundError("No module named 'optuna'")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match=r"pip install 'variational-sparse-coding\[sweep\]'"):
        claims.optuna()
    with pytest.raises(UsageError, match="needs optuna"):
        Queue(str(tmp_path / "journal.log"), "s")
