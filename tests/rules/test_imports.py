"""Do imports point one way? The order of stages is that of docs/decisions/0001-five-folders.md."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STAGES = (
    {"errors"},
    {"numerics"},
    {"hardware", "workload"},
    {"program"},
    {"timing", "energy"},
    {"mapping", "area"},  # the search times its candidates; areas are estimates as energies are
    {"values"},
    {"results"},
    {"simulate"},
    {"explore", "cluster", "validation", "explain"},
    {"report"},
    {""},  # hwsim/__init__.py, which may show what is below to users
    {"cli", "__main__"},
)
RANK = {stage: rank for rank, stages in enumerate(STAGES) for stage in stages}
OUTSIDE = {"hwsim_rtl", "hwsim_models", "amaranth", "cocotb"}
RTL_MAY_IMPORT = {"errors", "hardware", "numerics", "program"}
#: What holds the RTL to the simulator, or measures the RTL on what the simulator computes, sees both.
RTL_BESIDE_SIMULATOR = ("cosim", "power")
FILES = sorted((ROOT / "hwsim").rglob("*.py"))
RTL_FILES = sorted((ROOT / "rtl" / "hwsim_rtl").rglob("*.py"))


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def imports(path):
    """Every import of a file: its line, the dotted names it may mean, whether it is inside a function."""
    tree = ast.parse(path.read_text("utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    lazy = {inner for function in functions for inner in ast.walk(function)}
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, node in lazy
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{module}.{alias.name}", node in lazy


def stage_of(dotted):
    """Stage of ``hwsim.<stage>…``; a name that is no file of hwsim/ comes from the package itself."""
    second = [*dotted.split("."), ""][1]
    is_stage = (ROOT / "hwsim" / second).is_dir() or (ROOT / "hwsim" / f"{second}.py").is_file()
    return second if is_stage else ""


def stage_of_file(path):
    return stage_of(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_stage_imports_a_later_one(path):
    stage = stage_of_file(path)
    assert stage in RANK, f"{name_of(path)}: give stage '{stage}' its place in STAGES"
    later = [
        f"{name_of(path)}:{line} imports {dotted}"
        for line, dotted, _ in imports(path)
        if dotted.split(".")[0] == "hwsim" and RANK.get(stage_of(dotted), 0) > RANK[stage]
    ]
    assert not later


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_hwsim_needs_neither_rtl_nor_models(path):
    is_cli = stage_of_file(path) == "cli"
    eager = [
        f"{name_of(path)}:{line} imports {dotted}"
        for line, dotted, lazy in imports(path)
        if dotted.split(".")[0] in OUTSIDE and not (is_cli and lazy)
    ]
    assert not eager


@pytest.mark.parametrize("path", [p for p in RTL_FILES if p.parent.name not in RTL_BESIDE_SIMULATOR], ids=name_of)
def test_rtl_sees_only_descriptions_numbers_and_programs(path):
    others = [
        f"{name_of(path)}:{line} imports {dotted}"
        for line, dotted, _ in imports(path)
        if dotted.split(".")[0] == "hwsim" and stage_of(dotted) not in RTL_MAY_IMPORT
    ]
    assert not others


def test_imports_are_seen_in_every_form(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    path = tmp_path / "hwsim" / "program" / "x.py"
    path.parent.mkdir(parents=True)
    text = "import a.b\nfrom c import d\nfrom . import e\nfrom ..f import g\ndef h():\n    import i\n"
    path.write_text(text, "utf-8")
    seen = sorted((line, dotted, lazy) for line, dotted, lazy in imports(path))
    names = ["a.b", "c.d", "hwsim.program.e", "hwsim.f.g", "i"]
    assert [dotted for _, dotted, _ in seen] == names
    assert [lazy for _, _, lazy in seen] == [False] * 4 + [True]
