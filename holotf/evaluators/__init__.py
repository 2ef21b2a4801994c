"""The judge's questions, one a file, found by its name: a module here with a class `Judge`.

A judge says what it needs of the model and the data, what it measures and which way is better; `--mode evaluate` asks those
that fit and says why others do not.
"""

from collections.abc import Iterable, Iterator
from typing import ClassVar

from ml_collections import ConfigDict

from holotf import discovery
from holotf.evaluators.subject import Subject
from holotf.models.base import Generative


class Evaluator:
    """One question about a model.

    Args:
      subject: what is judged.
    """

    MODEL: type = Generative  # what the model must be
    ONE_SET = True  # whether it takes one data set: the run's, or the one of several that the model is judged on
    BETTER: ClassVar[dict] = {}  # {metric: min or max}, of those that have a better side

    def __init__(self, subject: Subject):
        self.subject = subject

    @classmethod
    def check(cls, settings: ConfigDict) -> None:
        """Finds what is wrong with what of `config.evaluate` is this question's own. It builds nothing.

        Raises:
          UserError: so.
        """

    def unfit(self) -> str | None:
        """Why this cannot be measured with this model and these data, or None."""
        return None

    def measures(self) -> Iterable[str]:
        """Those of BETTER that come out of it with this config, model and data."""
        return self.BETTER

    def run(self) -> Iterator[tuple[str, float]]:
        """Yields (path of a metric, value); what a reader of the figures has to know goes to `subject.note`."""
        raise NotImplementedError


def ask(questions: dict[str, type[Evaluator]], subject: Subject) -> dict[str, float]:
    """Asks those that fit the model and the data; of the others it is noted why they do not.

    Args:
      questions: {name: the question}.
      subject: of whom.

    Returns:
      {path of a metric: value}.
    """
    return {path: value for asked in fitting(questions, subject) for path, value in asked.run()}


def fitting(questions: dict[str, type[Evaluator]], subject: Subject) -> Iterator[Evaluator]:
    """Those that fit the model and the data, each once the one before was dealt with; of the others it is noted why they do not."""
    for name, question in questions.items():
        if not isinstance(subject.model, question.MODEL):
            subject.note(f"no {name}: it takes a model that is {question.MODEL.__name__}, and {subject.config.model.name} is not")
            continue
        if question.ONE_SET and isinstance(subject.source, dict):
            subject.note(f"no {name}: it takes one data set, and there are several")
            continue
        asked = question(subject)
        if reason := asked.unfit():
            subject.note(reason)
        else:
            yield asked


def names() -> list[str]:
    """Names of the evaluators there are."""
    return discovery.modules(__file__, "Judge")


def judges() -> dict[str, type[Evaluator]]:
    """{name: its `Judge`}, of those that can be imported."""
    found = {name: discovery.loaded(__name__, name, "Judge") for name in names()}
    return {name: judge for name, judge in found.items() if judge}


def better() -> dict:
    """{metric: min or max}, of all judges."""
    return {metric: side for judge in judges().values() for metric, side in judge.BETTER.items()}
