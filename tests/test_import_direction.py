"""extraction ← audit ← training; nobody imports the wiring; heavy and foreign packages stay where they belong."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FORBIDDEN = {
    "extraction": {"audit", "training", "qexplorer_site", "tests"},
    "audit": {"training", "qexplorer_site", "tests"},
    "training": {"qexplorer_site", "tests"},
    "qexplorer_site": {"tests"},
}
LEARNING = {"torch", "transformers", "peft", "trl", "accelerate", "datasets"}
SEARCH_CLIENTS = {"elasticsearch", "elastic_transport"}


def modules(app: str) -> Iterator[Path]:
    return (path for path in sorted((ROOT / app).rglob("*.py")) if "migrations" not in path.parts)


def imports(tree: ast.AST) -> set[str]:
    """Top names of everything imported anywhere in `tree`."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def outside_functions(tree: ast.Module) -> ast.Module:
    """The part of a module that runs when it is imported."""
    kept = [node for node in tree.body if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)]
    return ast.Module(body=[node for node in kept if not _is_for_types_only(node)], type_ignores=[])


def _is_for_types_only(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


@pytest.mark.parametrize("app", FORBIDDEN)
def test_app_imports_only_what_lies_below_it(app):
    wrong = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in modules(app)
        for name in imports(ast.parse(path.read_text())) & FORBIDDEN[app]
    }
    assert not wrong


@pytest.mark.parametrize("app", FORBIDDEN)
def test_learning_stack_is_imported_inside_functions_only(app):
    wrong = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in modules(app)
        for name in imports(outside_functions(ast.parse(path.read_text()))) & LEARNING
    }
    assert not wrong


@pytest.mark.parametrize("app", FORBIDDEN)
def test_only_the_search_gateway_knows_a_search_client(app):
    wrong = {
        str(path.relative_to(ROOT))
        for path in modules(app)
        if "extraction/search" not in str(path) and imports(ast.parse(path.read_text())) & SEARCH_CLIENTS
    }
    assert not wrong
