"""The order of imports: floors, rooms and modules; and the size of functions and files.

    python -m tests.test_house

prints the order as CONTRIBUTING.md shows it.
"""

import ast
import sys
import textwrap
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from utility.run.command import ROOT

FLOORS = ("utility", "preprocessing", "dataset", "net", "model", "command lines")  # from the ground to the roof
MOST_LINES, MOST_PARAMETERS, MOST_LINES_OF_FILE = 40, 7, 300

Graph = dict[str, set[str]]  # what imports -> what is imported


@cache
def modules() -> dict[str, ast.Module]:
    """The project's modules by name, without the tests."""
    folders = [ROOT / floor for floor in FLOORS if (ROOT / floor).is_dir()]
    paths = [*ROOT.glob("*.py"), *(path for folder in folders for path in folder.rglob("*.py"))]
    return {_name(path): ast.parse(path.read_text(encoding="utf-8")) for path in sorted(paths)}


def _name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def is_command_line(module: str) -> bool:
    """Command lines stand where users know them; wherever that is, they are the roof."""
    return any(isinstance(node, ast.If) and "__main__" in ast.unparse(node.test) for node in modules()[module].body)


def room(module: str) -> str:
    """The folder of a module, or its floor."""
    if is_command_line(module):
        return FLOORS[-1]
    parts = module.split(".")
    is_package = any(other.startswith(f"{module}.") for other in modules())
    return ".".join(parts[:2] if len(parts) > 2 or is_package else parts[:1])


def floor(module: str) -> int:
    """The number of a module's floor, from 0."""
    return FLOORS.index(room(module).split(".")[0])


@cache
def imports() -> Graph:
    """Which modules of the project each one imports, inside of functions too."""
    return {module: _imported(tree) for module, tree in modules().items()}


def _imported(tree: ast.Module) -> set[str]:
    named = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            named |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    known = named & modules().keys()
    # `from a.b import c` names the package a.b too, which matters only where c is not a module
    return {name for name in known if not any(other.startswith(f"{name}.") for other in known)}


def between_rooms() -> Graph:
    """Which rooms each one imports from."""
    graph: Graph = {room(module): set() for module in modules()}
    for module, imported in imports().items():
        graph[room(module)] |= {room(other) for other in imported} - {room(module)}
    return graph


def drawing() -> str:
    """The floors from the roof down; rooms of a floor import from those to the right of their `>` and from below."""
    graph = between_rooms()
    width = max(map(len, FLOORS))
    roof = " ".join(sorted(module.rpartition(".")[2] for module in modules() if is_command_line(module)))
    lines = [textwrap.fill(roof, 100, initial_indent=f"{FLOORS[-1]:{width}}  ", subsequent_indent=" " * (width + 2))]
    for name in reversed(FLOORS[:-1]):
        steps = _steps({r: graph[r] & set(_rooms_of(name, graph)) for r in _rooms_of(name, graph)})
        groups = [" ".join(sorted(r.partition(".")[2] for r in step)) for step in reversed(steps)]
        lines.append(f"{name:{width}}  {' > '.join(groups)}".rstrip())
    return "\n".join(lines)


def _rooms_of(name: str, graph: Graph) -> list[str]:
    return [r for r in graph if r.startswith(f"{name}.")]


def _steps(graph: Graph) -> list[list[str]]:
    """Rooms in groups, each of which imports only from groups before it."""
    sorter, steps = TopologicalSorter(graph), []
    sorter.prepare()
    while sorter.is_active():
        ready = [*sorter.get_ready()]
        steps.append(ready)
        sorter.done(*ready)
    return steps


def test_imports_go_down_or_stay_on_a_floor():
    upwards = [f"{a} -> {b}" for a, imported in imports().items() for b in imported if floor(a) < floor(b)]
    assert upwards == []


@pytest.mark.parametrize("graph", [imports(), between_rooms()], ids=["modules", "rooms"])
def test_there_is_no_circle(graph):
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_nothing_imports_a_command_line():
    found = [f"{a} -> {b}" for a, imported in imports().items() for b in imported if is_command_line(b)]
    assert found == []


def test_no_command_line_has_a_neighbour_that_hides_a_module_of_python():
    """The folder of a script is on its path, so a `utility/platform` would be taken for Python's own."""
    folders = [path.parent for path in map(_path, filter(is_command_line, modules()))]
    names = {path.stem for folder in folders for path in folder.iterdir() if path.suffix in ("", ".py")}
    assert names & sys.stdlib_module_names == set()


@pytest.mark.parametrize("command_line", sorted(filter(is_command_line, modules())))
def test_a_command_line_imports_no_tensorflow_before_its_flags(command_line):
    """What is imported inside of functions comes later."""
    todo, seen = {command_line}, set()
    while todo:
        module = todo.pop()
        seen.add(module)
        nodes = modules()[module].body
        names = {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
        names |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        assert not {name for name in names if name.split(".")[0] in ("tensorflow", "matplotlib")}, module
        todo |= _imported(ast.Module(nodes_at_top(nodes), [])) - seen


def nodes_at_top(nodes):
    return [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]


def test_an_arrow_upwards_and_a_circle_are_seen():
    """The checks on a graph that has both."""
    assert floor("utility.run.log") < floor("net.layers") < floor("utility.benchmark") == len(FLOORS) - 1
    assert _imported(ast.parse("def f():\n    from net.network import layers")) == {"net.layers"}
    with pytest.raises(CycleError):
        _steps({"a": {"b"}, "b": {"a"}})


def test_the_picture_in_contributing_is_that_of_the_imports():
    assert f"```\n{drawing()}\n```" in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), drawing()


def functions():
    for module, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                yield f"{module}:{node.name}", node


def test_functions_fit_on_a_screen():
    long = {name: size for name, node in functions() if (size := node.end_lineno - node.lineno + 1) > MOST_LINES}
    assert long == {}


def test_functions_take_few_parameters():
    found = {}
    for name, node in functions():
        arguments = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
        number = len([argument for argument in arguments if argument not in ("self", "cls")])
        if number > MOST_PARAMETERS:
            found[name] = number
    assert found == {}


def test_files_are_read_in_a_sitting():
    lines = {module: len(_path(module).read_text(encoding="utf-8").splitlines()) for module in modules()}
    assert {module: count for module, count in lines.items() if count > MOST_LINES_OF_FILE} == {}
    assert {m: count for m, count in lines.items() if is_command_line(m) and count > 120} == {}


def _path(module: str) -> Path:
    base = ROOT.joinpath(*module.split("."))
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


if __name__ == "__main__":
    print(drawing())
