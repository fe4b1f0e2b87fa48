"""Does every public name say what it is, and every function what it refuses?"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(p for folder in ("hwsim", "rtl/hwsim_rtl", "models/hwsim_models") for p in (ROOT / folder).rglob("*.py"))
Function = ast.FunctionDef | ast.AsyncFunctionDef


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def parse(path):
    return ast.parse(path.read_text("utf-8"))


def public_names(tree):
    """The literal ``__all__`` of a module, or None."""
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(t, ast.Name) and t.id == "__all__" for t in targets):
            return ast.literal_eval(node.value)
    return None


def public_definitions(tree):
    """Public functions and classes of a module and the public methods of the latter, with their dotted names."""
    names = public_names(tree) or ()
    for node in tree.body:
        if isinstance(node, Function | ast.ClassDef) and node.name in names:
            yield node.name, node
            if isinstance(node, ast.ClassDef):
                for inner in node.body:
                    if isinstance(inner, Function) and not inner.name.startswith("_"):
                        yield f"{node.name}.{inner.name}", inner


def raises_itself(function):
    return any(
        isinstance(node, ast.Raise)
        and isinstance(node.exc, ast.Call)
        and isinstance(node.exc.func, ast.Name)
        and node.exc.func.id == "HwsimError"
        for node in ast.walk(function)
    )


def callees(function):
    """Names that a function calls, as ``f(…)`` or ``self.f(…)``."""
    for node in ast.walk(function):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name):
                yield node.func.id
            elif isinstance(node.func, ast.Attribute) and getattr(node.func.value, "id", None) in ("self", "cls"):
                yield node.func.attr


def raising_names(tree):
    """Functions of a module that raise HwsimError, themselves or through others of the same module."""
    functions = {node.name: node for node in ast.walk(tree) if isinstance(node, Function)}
    raising = {name for name, node in functions.items() if raises_itself(node)}
    while True:
        more = {name for name, node in functions.items() if raising.intersection(callees(node))} - raising
        if not more:
            return raising
        raising |= more


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_module_opens_with_a_docstring(path):
    assert ast.get_docstring(parse(path)), f"{name_of(path)} says nothing of itself"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_module_lists_its_public_names(path):
    tree = parse(path)
    binds = [n for n in tree.body if not isinstance(n, ast.Expr) and getattr(n, "module", "") != "__future__"]
    if binds:  # a package of a docstring alone has no names
        assert public_names(tree) is not None, f"{name_of(path)} has no literal __all__"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_public_names_have_docstrings(path):
    silent = [name for name, node in public_definitions(parse(path)) if not ast.get_docstring(node)]
    assert not silent


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_functions_list_what_they_raise(path):
    tree = parse(path)
    raising = raising_names(tree)
    silent = [
        name
        for name, node in public_definitions(tree)
        if isinstance(node, Function) and node.name in raising and "Raises\n" not in (ast.get_docstring(node) or "")
    ]
    assert not silent


def test_raising_is_found_through_helpers():
    tree = ast.parse("def f():\n    g()\ndef g():\n    raise HwsimError('no')\ndef h():\n    pass\n")
    assert raising_names(tree) == {"f", "g"}
