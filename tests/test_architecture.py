"""Dependencies point down only, files stay small, and nothing can run foreign code or hide an error."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "mmmed"
# From the ground up. A module imports from lines above its own; parts of one line do not import each other.
LINES = (
    ("checks", "lazily", "palette"),
    ("types",),
    ("catalogue", "layers", "losses", "data"),
    ("backbones",),
    ("encoders", "fusion", "heads", "segmentation"),
    ("language",),
    ("models",),
    ("evaluation", "explain"),
    ("training",),
    ("pretraining",),
    ("cli",),
    ("__main__",),
)
LEVEL = {part: level for level, line in enumerate(LINES) for part in line}
FILES = sorted(PACKAGE.rglob("*.py"))
each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))


def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def part_of(path):
    """The top-level folder or file that a path belongs to; None for the package's own __init__."""
    first = path.relative_to(PACKAGE).parts[0]
    return None if first == "__init__.py" else first.removesuffix(".py")


def imports(source):
    """Line and part of every import from mmmed, those inside functions too; "" is the package itself.

    Imports for type checkers alone do not count: nothing is loaded by them.
    """
    found = []

    def visit(node):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.orelse:
                visit(child)
            return
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = ("mmmed." if node.level else "") + (node.module or "")
            names = [f"{module}.{alias.name}" for alias in node.names] if module == "mmmed" else [module]
        found.extend(
            (node.lineno, (*name.split("."), "")[1]) for name in names if name.split(".")[0] == "mmmed"
        )
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(source)
    return found


def wrong_imports(part, source):
    """Imports that a file of `part` may not have, as text."""
    wrong = []
    for line, other in imports(source):
        if other == part or (part == "cli" and other == ""):  # the command line uses the public names
            continue
        if other not in LEVEL or LEVEL[other] >= LEVEL[part]:
            wrong.append(f"line {line}: {part} imports {other or 'the whole package'}")
    return wrong


def test_every_folder_and_file_at_the_top_has_its_place():
    unknown = {part_of(path) for path in FILES} - {None} - set(LEVEL)
    assert not unknown, (
        f"{sorted(unknown)} stand on no line of the architecture: add them to LINES, or move them"
    )


@each_file
def test_imports_point_down_only(path):
    part = part_of(path)
    if part is None:
        assert not [line for line, _ in imports(tree(path)) if line and not inside_function(path, line)]
        return
    assert not wrong_imports(part, tree(path))


def inside_function(path, line):
    functions = [n for n in ast.walk(tree(path)) if isinstance(n, ast.FunctionDef)]
    return any(n.lineno <= line <= n.end_lineno for n in functions)


@pytest.mark.parametrize(
    ("part", "text"),
    [
        ("types", "import mmmed.data.cohort"),
        ("fusion", "from mmmed.heads.linear import make_head"),
        ("layers", "from mmmed.losses import stepwise"),
        ("data", "def f():\n    from mmmed.models import predict"),
        ("data", "from mmmed import models"),
        ("models", "from mmmed import predict"),
        ("models", "import mmmed"),
        ("evaluation", "from mmmed.explain.patterns import plot"),
        ("training", "if True:\n    import os, mmmed.cli"),
        ("losses", "from mmmed.wherever import x"),
        ("data", "if TYPE_CHECKING:\n    pass\nelse:\n    from mmmed.models import x"),
    ],
)
def test_the_test_above_would_see_a_wrong_import(part, text):
    assert wrong_imports(part, ast.parse(text))


@pytest.mark.parametrize(
    ("part", "text"),
    [
        ("cli", "import mmmed"),
        ("fusion", "from mmmed.fusion.recurrence import x\nfrom mmmed.layers.mlp import mlp\nimport torch"),
        ("models", "if TYPE_CHECKING:\n    from mmmed.training import x"),
        ("data", "import mmmedical"),
    ],
)
def test_the_test_above_lets_right_imports_pass(part, text):
    assert not wrong_imports(part, ast.parse(text))


@each_file
def test_no_file_is_longer_than_400_lines(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


@each_file
def test_no_file_or_folder_is_a_place_for_leftovers(path):
    banned = {"utils", "util", "common", "helpers", "helper", "misc"}
    assert not banned & {part.removesuffix(".py") for part in path.relative_to(PACKAGE).parts}


def dangers(source):
    """What could run foreign code, hide an error, touch global chance, or speak uninvited."""
    found = []
    for node in ast.walk(source):
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            found.append((node.lineno, "bare except"))
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            risky = {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal", "cloudpickle"}
            found += [(node.lineno, name) for name in names if name.split(".")[0] in risky]
        if isinstance(node, ast.Call):
            called, given = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
            if called in ("eval", "exec", "compile", "__import__", "print"):
                found.append((node.lineno, called))
            if called == "torch.load" and given.get("weights_only") != "True":
                found.append((node.lineno, "torch.load without weights_only=True"))
            if called in ("np.load", "numpy.load") and given.get("allow_pickle", "False") != "False":
                found.append((node.lineno, "np.load with allow_pickle"))
            if called in ("torch.manual_seed", "np.random.seed", "numpy.random.seed", "random.seed"):
                found.append((node.lineno, f"the global {called}"))
            for name in ("allow_pickle", "trust_remote_code", "shell"):
                if given.get(name, "False") != "False":
                    found.append((node.lineno, f"{name}={given[name]}"))
    return found


def speaks(path):
    """Who may print: the command line, and `fit` of the estimators, which reports unless told not to."""
    return part_of(path) == "cli" or path == PACKAGE / "training" / "estimators.py"


@each_file
def test_nothing_runs_foreign_code_hides_errors_or_touches_global_chance(path):
    found = [item for item in dangers(tree(path)) if not (item[1] == "print" and speaks(path))]
    assert not found


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from joblib import load",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "eval('1')",
        "exec('1')",
        "np.load(path, allow_pickle=True)",
        "load(path, trust_remote_code=True)",
        "load(path, trust_remote_code=flag)",
        "try:\n    pass\nexcept:\n    pass",
        "torch.manual_seed(0)",
        "print(1)",
        "run(command, shell=True)",
    ],
)
def test_the_test_above_would_see_each_danger(text):
    assert dangers(ast.parse(text))


@pytest.mark.parametrize(
    "text",
    [
        "torch.load(path, weights_only=True)",
        "np.load(path, allow_pickle=False)",
        "model.eval()",
        "re.compile('a')",
    ],
)
def test_the_test_above_lets_harmless_calls_pass(text):
    assert not dangers(ast.parse(text))


@each_file
def test_every_module_and_public_class_says_what_it_is(path):
    source = tree(path)
    if path.stat().st_size:
        assert ast.get_docstring(source), "the module has no docstring"
    classes = [n for n in source.body if isinstance(n, ast.ClassDef) and not n.name.startswith("_")]
    assert not [node.name for node in classes if not ast.get_docstring(node)]


OUTSIDE = sorted(
    path for folder in ("demos", "notebooks") for path in (PACKAGE.parent / folder).rglob("*.py")
)


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: str(path.relative_to(PACKAGE.parent)))
def test_the_page_and_the_lectures_import_public_names_only(path):
    names = [
        f"{node.module}.{alias.name}"
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "mmmed"
        for alias in node.names
        if alias.name != "__version__"
    ]
    assert not [name for name in names if any(part.startswith("_") for part in name.split(".")[1:])]
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
