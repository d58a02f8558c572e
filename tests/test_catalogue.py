"""The catalogue is a table: every row can be loaded, cites its paper, and listing it imports nothing."""

import re
import subprocess
import sys
from importlib import import_module

import pytest

from mmmed.catalogue import KINDS, ROWS, create, find, list_components

rows = pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.kind}: {row.name}")


def loaded(row):
    """The class, or a skip as long as its module is not there; a module that fails to import is a failure."""
    module = row.place.split(":")[0]
    try:
        return row.load()
    except ModuleNotFoundError as error:
        if error.name == module:
            pytest.skip(f"{module} is not written yet")
        raise


@rows
def test_a_row_leads_to_a_class_that_can_be_built(row):
    kind = loaded(row)
    assert isinstance(kind, type)
    if row.kind == "fusion":
        fusion = kind(["image", "labs"], dim=4, state_dim=3, **row.tiny)
        assert (tuple(fusion.modalities), fusion.state_dim) == (("image", "labs"), 3)
    elif row.kind == "word-pixel fusion":
        fusion = kind(4, 3, space=3, **row.tiny)
        assert (fusion.width, fusion.dim, fusion.space) == (4, 3, 3)
    else:
        assert callable(kind.from_schema)


@rows
def test_the_module_of_a_row_cites_the_source_of_the_row(row):
    kind = loaded(row)
    citation = re.search(r"(arXiv|doi):\S+", row.source)
    assert citation, f"{row.name} names no arXiv number or DOI"
    documentation = f"{import_module(kind.__module__).__doc__} {kind.__doc__}"
    assert citation.group() in documentation


@rows
def test_a_row_states_what_it_is(row):
    assert row.kind in KINDS
    assert row.place.startswith("mmmed.")
    assert re.fullmatch(r"[a-z0-9_]+", row.name)
    with pytest.raises(TypeError):
        row.tiny["dim"] = 3  # the table cannot be changed by a user of it


def test_no_name_stands_for_two_things():
    names = [row.name for row in ROWS]
    assert len(set(names)) == len(names)


def test_names_are_listed_by_pattern_and_kind():
    assert "multimodn" in list_components()
    assert list_components("*modn") == ["multimodn"]
    assert list_components(kind="fusion")[:2] == ["multimodn", "cascade"]
    assert list_components("c*", kind="fusion") == ["cascade", "concat"]
    assert list_components("multi*", kind="image encoder") == []
    with pytest.raises(ValueError, match='Did you mean "fusion"'):
        list_components(kind="fusions")


def test_a_component_is_found_and_built_by_name():
    fusion = create("multimodn", ["image", "labs"], dim=8, state_dim=4)
    assert type(fusion).__name__ == "MultiModN"
    assert fusion.modalities == ("image", "labs")
    assert find("concat", "fusion").name == "concat"
    with pytest.raises(ValueError, match=r"Unknown component 'multimod'\. Did you mean \"multimodn\""):
        create("multimod")
    with pytest.raises(ValueError, match=r"Unknown fusion 'cascad'\. Did you mean \"cascade\""):
        find("cascad", "fusion")
    with pytest.raises(ValueError, match="Unknown image encoder 'concat'"):
        find("concat", "image encoder")


def test_listing_imports_nothing_heavy_and_no_component():
    program = (
        "import sys; from mmmed.catalogue import list_components; list_components('*');"
        "parts = [m for m in sys.modules if m.startswith('mmmed.') and m.count('.') > 1];"
        "print(parts + [m for m in ('torch', 'numpy') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
