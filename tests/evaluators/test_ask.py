"""Who is asked which questions, and what is said of the others."""

import types

import pytest

from holotf.evaluators import Evaluator, ask


class Number(Evaluator):
    MODEL = int

    def run(self):
        yield "number", float(self.subject.model)


class Unlabelled(Number):
    def unfit(self):
        return "no unlabelled: no labels"


class Sets(Number):
    ONE_SET = False

    def run(self):
        yield "sets", float(len(self.subject.source))


@pytest.mark.parametrize(
    ("model", "source", "metrics", "notes"),
    [
        (3, "one", {"number": 3.0, "sets": 3.0}, ["no unlabelled: no labels"]),
        (
            3,
            {"a": 1, "b": 2},
            {"sets": 2.0},
            [f"no {n}: it takes one data set, and there are several" for n in ("number", "unlabelled")],
        ),
        ("x", "one", {}, [f"no {n}: it takes a model that is int, and mine is not" for n in ("number", "unlabelled", "sets")]),
    ],
)
def test_what_does_not_fit_is_said(model, source, metrics, notes):
    said = []
    config = types.SimpleNamespace(model=types.SimpleNamespace(name="mine"))
    subject = types.SimpleNamespace(model=model, source=source, config=config, note=said.append)
    assert ask({"number": Number, "unlabelled": Unlabelled, "sets": Sets}, subject) == metrics
    assert said == notes
