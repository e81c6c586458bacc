"""Looking up names, and the two kinds of failure."""

import pickle

import pytest

from vsc.errors import Interrupted, RunError, UsageError, choose, first_line

REGISTRY = {"gaussian": 1, "bernoulli": 2}


def test_a_known_name():
    assert choose(REGISTRY, "gaussian", "likelihood") == 1


def test_an_unknown_name_lists_the_family_and_the_nearest():
    with pytest.raises(UsageError) as caught:
        choose(REGISTRY, "gausian", "likelihood")
    message = str(caught.value)
    assert "unknown likelihood 'gausian'" in message
    assert "one of: gaussian, bernoulli" in message
    assert message.index("did you mean 'gaussian'?") < message.index("one of"), "a long list may be cut"


def test_no_guess_where_nothing_is_near():
    with pytest.raises(UsageError) as caught:
        choose(REGISTRY, "xyz", "likelihood")
    assert "did you mean" not in str(caught.value)


def test_names_are_exact():
    with pytest.raises(UsageError, match="did you mean 'gaussian'"):
        choose(REGISTRY, "gaussian ", "likelihood")


def test_kinds():
    # callers that know nothing of vsc can catch them by the built-in classes
    assert issubclass(UsageError, ValueError)
    assert issubclass(RunError, RuntimeError)
    assert not issubclass(UsageError, RunError)


@pytest.mark.parametrize("command", [None, "vsc train --resume"])
def test_an_interruption_crosses_a_process_border(command):
    stop = Interrupted("stopped at step 5", command, 15)
    back = pickle.loads(pickle.dumps(stop))
    assert (str(back), back.reached, back.command, back.signum, back.code) == (
        *(str(stop), "stopped at step 5", command, 15, 143),
    )


def test_the_first_line_of_another_librarys_page():
    assert first_line(ValueError("one\ntwo")) == "one"
    assert first_line(MemoryError()) == "MemoryError"
    assert len(first_line(ValueError("x" * 10_000))) == 200
