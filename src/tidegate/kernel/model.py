"""The model of a detector: what its card says, and the scorer that is handed in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from tidegate.errors import TidegateError
from tidegate.kernel.freshness import Effect
from tidegate.kernel.language.bind import near
from tidegate.kernel.language.expressions import BOOLEAN, DOUBLE, INTEGER_DIGITS
from tidegate.kernel.language.yamltext import Yaml

CARD = "model/card.yaml"

#: Types of features that a model takes: it is given doubles.
NUMBERS = tuple(str(type_) for type_ in (BOOLEAN, DOUBLE, *INTEGER_DIGITS))


class Scorer(Protocol):
    """What the kernel asks of a loaded model (port `models`)."""

    @property
    def sha256(self) -> str: ...
    @property
    def width(self) -> int: ...
    @property
    def names(self) -> tuple[str, ...]: ...
    def scores(self, rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]: ...
    def contributions(self, rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]: ...


class Loader(Protocol):
    """Makes a scorer of a detector's texts (port `models`)."""

    def load(self, texts: Mapping[str, str]) -> Scorer: ...


@dataclass(frozen=True)
class Model:
    """`scorer` None: the model is missing, and no event has a score; `fault` says why."""

    name: str
    version: str
    features: tuple[str, ...]
    """What it takes, in order."""
    missing: Effect
    """What follows where it gives no score."""
    scorer: Scorer | None
    fault: str = ""

    @property
    def id(self) -> str:
        """What decisions call it: `trees 3`."""
        return f"{self.name} {self.version}"

    def scores(self, rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """float64[n]: the score of each row of float64[n, f]; NaN where there is none: the model is missing, failed, or
        gave what is no number.
        """
        if self.scorer is not None:
            try:
                scores = self.scorer.scores(rows)
            except TidegateError:
                return np.full(len(rows), np.nan)
            return np.where(np.isfinite(scores), scores, np.nan)
        return np.full(len(rows), np.nan)

    def contributions(self, rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """float64[n, f], or float64[n, 0] where the model can't tell."""
        if self.scorer is not None:
            try:
                return self.scorer.contributions(rows)
            except TidegateError:
                pass
        return np.empty((len(rows), 0))


def compile_card(
    file: str, texts: Mapping[str, str], types: Mapping[str, str], *, missing: Effect, models: Loader | None
) -> Model:
    """Compile a model's card and load the model. `types` are the SQL types of the detector's features by name. A model
    that can't be loaded is missing: what follows is for the policy to say.

    Raises:
        DetectorError: a key is unknown or missing, a feature is none of the detector's or of another type, or the card
            is not that of the model.
    """
    keys = Yaml.parse(file, texts[file]).mapping(
        ("name", "version", "sha256", "features", "score", "data", "metrics", "made_by")
    )
    name, version = keys["name"].words(), keys["version"].words()
    for key, words in (("name", name), ("version", version)):
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", words):
            keys[key].fail(f"the {key} {words[:60]!r}", "letters, digits and _.-")
    features = _features(keys["features"], types)
    for key in ("score", "data", "made_by"):
        keys[key].words()
    keys["metrics"].items()
    scorer, fault = None, "nothing can load it here"
    if models is not None:
        try:
            scorer, fault = models.load(texts), ""
        except TidegateError as error:
            fault = str(error)
    if scorer is not None:
        _check_scorer(keys, features, scorer)
    return Model(name, version, features, missing, scorer, fault)


def _features(keys: Yaml, types: Mapping[str, str]) -> tuple[str, ...]:
    features = keys.items()
    for feature, node in features.items():
        if feature not in types:
            node.fail(f"the feature {feature!r}", near(feature, types))
        if types[feature] not in NUMBERS:
            node.fail(f"the feature {feature!r}, which is {types[feature]}", f"one of {', '.join(NUMBERS)}")
        if node.words() != types[feature]:
            node.fail(f"the type {node.words()}", f"{types[feature]}, as features.sql has it")
    return tuple(features)


def _check_scorer(keys: dict[str, Yaml], features: tuple[str, ...], scorer: Scorer) -> None:
    if keys["sha256"].words() != scorer.sha256:
        keys["sha256"].fail(f"a model file of sha256 {scorer.sha256}", "the file that the card was written for")
    if len(features) != scorer.width:
        keys["features"].fail(f"{len(features)} features", f"the {scorer.width} that the model takes")
    if scorer.names and scorer.names != features:
        wrong = next(place for place, pair in enumerate(zip(scorer.names, features, strict=True)) if pair[0] != pair[1])
        keys["features"].fail(
            f"{features[wrong]!r} as number {wrong + 1}", f"{scorer.names[wrong]!r}, as the model's file has it"
        )
