"""What every adapter of the port `models` does. A model is written where the adapter looks for it, then loaded."""

import base64
import hashlib
from itertools import pairwise

import lightgbm
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.adapters.embedded.models import EmbeddedModels
from tidegate.errors import DamagedError, NotFoundError

WIDTH = 6
NAMES = [f"feature_{number}" for number in range(WIDTH)]


def drawn_rows(count, seed):
    """Rows as they come: whole numbers, fractions, zeros, and what is missing."""
    chance = np.random.default_rng(seed)
    rows = chance.normal(size=(count, WIDTH)) * [1, 10, 100, 1, 1, 1]
    rows[:, 3] = chance.integers(0, 4, count)
    rows[:, 4] = chance.random(count) < 0.2
    rows[chance.random(rows.shape) < 0.1] = np.nan
    return rows


def trained(*, rounds=60, categorical_feature="auto", **params):
    rows = drawn_rows(3000, seed=1)
    filled = np.nan_to_num(rows)
    labels = (filled[:, 0] + filled[:, 3] * filled[:, 4] + np.isnan(rows[:, 2]) > 1).astype(int)
    labels ^= np.random.default_rng(9).random(len(labels)) < 0.2
    given_params = {"objective": "binary", "verbosity": -1, "seed": 5, "num_threads": 1, **params}
    data = lightgbm.Dataset(rows, labels, feature_name=NAMES, categorical_feature=categorical_feature)
    return lightgbm.train(given_params, data, rounds)


#: Ways to train that lead to other kinds of trees: how what is missing goes, what the sum becomes, how large they are.
TRAININGS = {
    "plain": {},
    "zero is missing": {"zero_as_missing": True},
    "nothing is missing": {"use_missing": False},
    "regression": {"objective": "regression"},
    "cross entropy": {"objective": "cross_entropy"},
    "another slope": {"sigmoid": 2.5},
    "stumps and single leaves": {"num_leaves": 2, "min_gain_to_split": 40},
    "as large as can be": {"num_leaves": 64, "min_data_in_leaf": 2},
}
BOOSTERS = {name: trained(**params) for name, params in TRAININGS.items()}


def onnx_model(type_=onnx.TensorProto.DOUBLE):
    """A logistic regression."""
    weights = np.linspace(-1, 1, WIDTH).reshape(WIDTH, 1)
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("MatMul", ["rows", "weights"], ["sums"]),
            onnx.helper.make_node("Sigmoid", ["sums"], ["scores"]),
        ],
        "regression",
        [onnx.helper.make_tensor_value_info("rows", type_, [None, WIDTH])],
        [onnx.helper.make_tensor_value_info("scores", type_, [None, 1])],
        [onnx.helper.make_tensor("weights", type_, [WIDTH, 1], weights.flatten().tolist())],
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    return onnx.helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString()


def base64_of(content):
    return base64.b64encode(content).decode()


FILES = {name: ("model/model.txt", booster.model_to_string()) for name, booster in BOOSTERS.items()}
FILES |= {
    "onnx": ("model/model.onnx", base64_of(onnx_model())),
    "onnx floats": ("model/model.onnx", base64_of(onnx_model(onnx.TensorProto.FLOAT))),
}


@pytest.fixture(scope="module", params=[EmbeddedModels])
def models(request):
    return request.param()


@pytest.fixture(scope="module")
def load(models):
    return lambda name, text: models.load({"features.sql": "SELECT 1", name: text})


@pytest.mark.parametrize("kind", FILES)
def test_a_model_says_what_it_is(load, kind):
    name, text = FILES[kind]
    model = load(name, text)
    content = base64.b64decode(text) if name.endswith(".onnx") else text.encode()
    assert model.sha256 == hashlib.sha256(content).hexdigest()
    assert model.width == WIDTH
    assert model.names in ((), tuple(NAMES))


@pytest.mark.parametrize("kind", TRAININGS)
def test_scores_are_lightgbms_to_the_bit(load, kind):
    rows = drawn_rows(1000, seed=2)
    rows[0], rows[1], rows[2] = np.inf, -np.inf, 1e-36
    expected = BOOSTERS[kind].predict(rows, num_threads=1)
    np.testing.assert_array_equal(load(*FILES[kind]).scores(rows), expected)


@pytest.mark.parametrize("kind", FILES)
@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(0, 200), max_size=6), data=st.data())
def test_a_row_has_the_same_score_in_any_batch(load, kind, cuts, data):
    model = load(*FILES[kind])
    rows = drawn_rows(200, seed=data.draw(st.integers(0, 5)))
    whole = model.scores(rows)
    parts = [model.scores(rows[start:end]) for start, end in pairwise(sorted([0, *cuts, 200]))]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    alone = [model.scores(rows[row : row + 1])[0] for row in range(0, 200, 13)]
    np.testing.assert_array_equal(alone, whole[::13])
    order = np.argsort(whole, kind="stable")
    np.testing.assert_array_equal(model.scores(rows[order]), whole[order])


@pytest.mark.parametrize("kind", FILES)
def test_no_rows_have_no_scores(load, kind):
    model = load(*FILES[kind])
    nothing = np.empty((0, WIDTH))
    assert model.scores(nothing).shape == (0,)
    assert len(model.contributions(nothing)) == 0


def test_contributions_add_up_to_the_score(load):
    rows = drawn_rows(50, seed=3)
    model = load(*FILES["plain"])
    told = model.contributions(rows)
    assert told.shape == (50, WIDTH)
    score = model.scores(rows)
    beside = np.log(score / (1 - score)) - told.sum(axis=1)
    np.testing.assert_allclose(beside, beside[0], atol=1e-9)


def test_a_model_that_tells_no_contributions_says_so(load):
    assert load(*FILES["onnx"]).contributions(drawn_rows(4, seed=1)).shape == (4, 0)


def test_a_detector_without_a_model(models):
    with pytest.raises(NotFoundError, match=r"rules\.yaml"):
        models.load({"rules.yaml": "rules: []", "model/card.yaml": "name: lost"})


TEXT = FILES["plain"][1]
NOT_TAKEN = {
    "empty": "",
    "another text": "SELECT 1",
    "cut off": TEXT[: len(TEXT) // 2],
    "a line lost": TEXT.replace("split_feature", "other", 1),
    "a number spoiled": TEXT.replace("threshold=", "threshold=x", 1),
    "several classes": TEXT.replace("num_class=1", "num_class=3"),
    "another objective": TEXT.replace("objective=binary sigmoid:1", "objective=poisson"),
    "too many leaves": trained(
        num_leaves=200, min_data_in_leaf=1, min_sum_hessian_in_leaf=0, rounds=1
    ).model_to_string(),
    "categories": trained(categorical_feature=[3], rounds=3).model_to_string(),
}


@pytest.mark.parametrize("kind", NOT_TAKEN)
def test_what_is_no_model_is_refused(load, kind):
    with pytest.raises(DamagedError, match="model: "):
        load("model/model.txt", NOT_TAKEN[kind])


@pytest.mark.parametrize("content", ["", "not a model", base64_of(b"not a model"), base64_of(onnx_model()[:80])])
def test_what_is_no_onnx_model_is_refused(load, content):
    with pytest.raises(DamagedError, match="model: "):
        load("model/model.onnx", content)
