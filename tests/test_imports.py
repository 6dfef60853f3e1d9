"""The order of imports: utility <- preprocessing <- dataset <- net <- model, command lines."""

import ast
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from utility.run.command import ROOT

LAYERS = ("utility", "preprocessing", "dataset", "net", "model", "command lines")  # each may import those before it
SLOW = {"tensorflow", "keras", "tf_keras", "matplotlib"}


@cache
def modules() -> dict[str, ast.Module]:
    """The project's modules by name, without the tests."""
    paths = [*ROOT.glob("*.py"), *(path for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))]
    return {name_of(path): ast.parse(path.read_text(encoding="utf-8")) for path in sorted(paths)}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def is_command_line(module: str) -> bool:
    return any(isinstance(node, ast.If) and "__main__" in ast.unparse(node.test) for node in modules()[module].body)


def layer(module: str) -> int:
    return LAYERS.index("command lines" if is_command_line(module) else module.partition(".")[0])


def names_in(nodes) -> set[str]:
    """What import statements name; of `from a import b` both a and a.b."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return names


def of_the_project(names: set[str]) -> set[str]:
    """The modules among names; a package counts only where nothing in it is a module of its own."""
    known = names & modules().keys()
    return {name for name in known if not any(other.startswith(f"{name}.") for other in known)}


@cache
def imports() -> dict[str, set[str]]:
    """Which modules of the project each one imports, inside of functions too."""
    return {module: of_the_project(names_in(ast.walk(tree))) for module, tree in modules().items()}


def test_imports_go_one_way():
    wrong = [f"{a} -> {b}" for a, imported in imports().items() for b in imported if layer(a) < layer(b)]
    assert wrong == []


def test_there_is_no_circle():
    try:
        TopologicalSorter(imports()).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_nothing_imports_a_command_line():
    assert [f"{a} -> {b}" for a, imported in imports().items() for b in imported if is_command_line(b)] == []


def test_no_command_line_has_a_neighbour_that_hides_a_module_of_python():
    """The folder of a script is on its path, so a `utility/platform` would be taken for Python's own."""
    folders = {ROOT.joinpath(*module.split(".")).parent for module in modules() if is_command_line(module)}
    names = {path.stem for folder in folders for path in folder.iterdir() if path.suffix in ("", ".py")}
    assert names & sys.stdlib_module_names == set()


@pytest.mark.parametrize("command_line", sorted(filter(is_command_line, modules())))
def test_a_command_line_imports_no_tensorflow_before_its_flags(command_line):
    """What is imported inside of functions comes later."""
    todo, seen = {command_line}, set()
    while todo:
        module = todo.pop()
        seen.add(module)
        names = names_in(modules()[module].body)
        assert not SLOW & {name.partition(".")[0] for name in names}, module
        todo |= of_the_project(names) - seen


def test_the_checks_see_what_they_look_for():
    assert {layer(module) for module in modules()} == set(range(len(LAYERS)))
    assert layer("utility.errors") < layer("net.layers") < layer("utility.benchmark") == layer("train_ssd")
    inside = ast.walk(ast.parse("def f():\n    from net import layers\n    import utility.errors"))
    assert of_the_project(names_in(inside)) == {"net.layers", "utility.errors"}
    assert "utility.errors" in imports()["utility.config.presets"]
