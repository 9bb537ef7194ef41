"""Models in this process: LightGBM's text format and ONNX."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from tidegate.adapters.embedded._trees import Forest
from tidegate.errors import DamagedError, NotFoundError, StateError
from tidegate.ports.models import Model

#: What a model's text is called; ONNX is bytes, as base64.
_LIGHTGBM, _ONNX = "model/model.txt", "model/model.onnx"


class EmbeddedModels:
    """Makes a model of the detector's text `model/model.txt` or `model/model.onnx`."""

    def load(self, texts: Mapping[str, str]) -> Model:
        if _LIGHTGBM in texts:
            return LightGbmModel(texts[_LIGHTGBM])
        if _ONNX in texts:
            return OnnxModel(texts[_ONNX])
        raise NotFoundError(f"model: wanted {_LIGHTGBM} or {_ONNX} beside {', '.join(sorted(texts))}, found neither")


class LightGbmModel:
    """Trees are added up here, which is faster than LightGBM and gives the same bits; LightGBM tells contributions."""

    def __init__(self, text: str) -> None:
        """
        Raises:
            DamagedError: the text is not a LightGBM model, or of a kind that is not taken.
        """
        self.sha256 = hashlib.sha256(text.encode()).hexdigest()
        self._text = text
        self._forest = Forest(self._text)
        self.names = self._forest.names
        self.width = len(self.names)

    def scores(self, rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return self._forest.scores(rows)

    def contributions(self, rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        booster = self._booster
        if not len(rows):
            return np.empty((0, self.width))
        # With a bias in the last column.
        told: Any = booster.predict(rows, pred_contrib=True, num_threads=1)
        return np.asarray(told, np.float64)[:, :-1]

    @cached_property
    def _booster(self) -> Any:
        # LightGBM takes a second to load, and scores don't need it.
        import lightgbm

        return lightgbm.Booster(model_str=self._text)


class OnnxModel:
    """Each row is a run of its own: how ONNX Runtime adds up a row may depend on the rows beside it."""

    names = ()

    def __init__(self, text: str) -> None:
        """
        Raises:
            DamagedError: the text is not an ONNX model from rows of numbers to one score each.
        """
        import onnxruntime

        try:
            content = base64.b64decode(text, validate=True)
        except ValueError:
            raise DamagedError(f"model: wanted {_ONNX} as base64, got another text") from None
        self.sha256 = hashlib.sha256(content).hexdigest()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4  # what is wrong is raised
        try:
            self._session: Any = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # noqa: BLE001 - ONNX Runtime's errors have no common class
            raise DamagedError(f"model: ONNX Runtime can't load {_ONNX}: {type(error).__name__}") from None
        (taken, *others), given = self._session.get_inputs(), self._session.get_outputs()[-1]
        types = {"tensor(float)": np.float32, "tensor(double)": np.float64}
        width = taken.shape[-1] if len(taken.shape) == 2 else None  # noqa: PLR2004 - rows and features
        if others or taken.type not in types or not isinstance(width, int) or given.type not in types:
            raise DamagedError(
                f"model: wanted {_ONNX} with one input, a tensor of numbers [rows, features], and such a tensor as its "
                f"last output; got the inputs {[(each.name, each.type, each.shape) for each in (taken, *others)]} "
                f"and the output {given.name} of {given.type}"
            )
        self.width = width
        self._input, self._type, self._output = taken.name, types[taken.type], given.name

    def scores(self, rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        taken, scores = rows.astype(self._type), np.empty(len(rows))
        try:
            for place in range(len(rows)):
                (answer,) = self._session.run([self._output], {self._input: taken[place : place + 1]})
                # Of several classes the last is the one that is looked for.
                scores[place] = answer.reshape(-1)[-1]
        except Exception as error:  # noqa: BLE001 - as above
            raise StateError(f"model: ONNX Runtime can't score: {type(error).__name__}") from None
        return scores

    def contributions(self, rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.empty((len(rows), 0))
