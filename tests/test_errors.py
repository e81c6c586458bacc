"""Looking up names, and the two kinds of failure."""

import pytest

from vsc.errors import RunError, UsageError, choose

REGISTRY = {"gaussian": 1, "bernoulli": 2}


def test_a_known_name():
    assert choose(REGISTRY, "gaussian", "likelihood") == 1


def test_an_unknown_name_lists_the_family_and_the_nearest():
    with pytest.raises(UsageError) as caught:
        choose(REGISTRY, "gausian", "likelihood")
    message = str(caught.value)
    assert "unknown likelihood 'gausian'" in message
    assert "one of: gaussian, bernoulli" in message
    assert "did you mean 'gaussian'?" in message


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
