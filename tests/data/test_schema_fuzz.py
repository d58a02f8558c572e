"""Any valid schema survives the way to JSON and back; any other JSON is answered with a ValueError."""

import copy
import json
import pickle
from contextlib import suppress

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmmed.types import (
    Binary,
    Category,
    Image,
    Multiclass,
    Multilabel,
    Number,
    Regression,
    Schema,
    Series,
    Tabular,
    Text,
    Volume,
)

quick = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])

words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
names = words.filter(lambda word: "." not in word)
finite = st.floats(-1e9, 1e9)
positive = st.floats(1e-6, 1e9)
units = st.none() | words
levels = st.lists(words, min_size=2, max_size=4, unique=True).map(tuple)
sides = st.integers(1, 512)


@st.composite
def numbers(draw, name):
    low, high = sorted([draw(finite), draw(finite)])
    keep = draw(st.booleans())
    return Number(
        name, draw(units), low if keep else None, high if keep else None, draw(finite), draw(positive)
    )


@st.composite
def cells(draw, name):
    if draw(st.booleans()):
        return draw(numbers(name))
    return Category(name, draw(levels), draw(st.sampled_from(["missing", "error"])))


@st.composite
def schemas(draw):
    """A schema whose columns are all different."""
    columns = iter([f"{draw(words)}{i}" for i in range(14)])
    made = {}
    for name in draw(st.lists(names, min_size=1, max_size=4, unique=True)):
        column = next(columns)
        match draw(st.integers(0, 4)):
            case 0:
                made[name] = Image(
                    column,
                    (draw(sides), draw(sides)),
                    draw(st.sampled_from([1, 3])),
                    draw(finite),
                    draw(positive),
                )
            case 1:
                made[name] = Volume(
                    column, (draw(sides),) * 3, draw(st.integers(1, 4)), draw(st.none() | words)
                )
            case 2:
                made[name] = Tabular((draw(cells(column)), draw(cells(next(columns)))))
            case 3:
                made[name] = Text(column, draw(sides), draw(levels), draw(st.none() | words))
            case _:
                made[name] = Series(
                    column, (draw(numbers("x")), draw(numbers("y"))), draw(sides), "t", draw(positive)
                )
    tasks = {}
    for name in draw(st.lists(names, max_size=2, unique=True)):
        column = next(columns)
        tasks[name] = draw(
            st.sampled_from(
                [
                    Binary(column, draw(levels)[:2]),
                    Multiclass(column, draw(levels)),
                    Multilabel((column,)),
                    Regression(column, draw(units), draw(finite), draw(positive)),
                ]
            )
        )
    return Schema(
        made, tasks, group=draw(st.none() | st.just("patient!")), id=draw(st.none() | st.just("id!"))
    )


@quick
@given(schemas())
def test_a_schema_comes_back_equal_from_json_pickle_and_deep_copy(schema):
    text = json.dumps(schema.to_dict(), ensure_ascii=False, allow_nan=False)
    again = Schema.from_dict(json.loads(text))
    assert again == schema
    assert hash(again) == hash(schema)
    assert list(again.modalities) == list(schema.modalities)  # the order is the order of fusion
    assert pickle.loads(pickle.dumps(schema)) == schema
    assert copy.deepcopy(schema) == schema
    assert str(schema)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 600) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def answered(data) -> None:
    with suppress(ValueError):
        Schema.from_dict(data)


@quick
@given(json_values)
def test_json_that_is_no_schema_is_a_value_error(data):
    answered(data)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_schema_with_one_field_replaced_by_anything_is_read_or_a_value_error(data):
    form = json.loads(
        json.dumps(
            Schema(
                {
                    "image": Image("path"),
                    "ct": Volume("file", key="a"),
                    "labs": Tabular((Number("crp", "mg/l"), Category("sex", ("f", "m")))),
                    "note": Text("history", vocabulary=("a", "b")),
                    "vitals": Series("steps", (Number("pulse"),)),
                },
                {
                    "ill": Binary("ill"),
                    "kind": Multiclass("kind", ("a", "b", "c")),
                    "signs": Multilabel(("u", "v")),
                    "dose": Regression("dose"),
                },
                group="patient",
            ).to_dict()
        )
    )
    place = data.draw(st.sampled_from(list(_places(form))))
    parent = form
    for key in place[:-1]:
        parent = parent[key]
    parent[place[-1]] = data.draw(json_values)
    answered(form)


def _places(form, way=()):
    """The way to every value inside."""
    items = form.items() if isinstance(form, dict) else enumerate(form) if isinstance(form, list) else ()
    for key, value in items:
        yield (*way, key)
        yield from _places(value, (*way, key))
