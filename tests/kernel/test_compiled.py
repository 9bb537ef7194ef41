"""Machine code that is kept on disk must not outlive the text that it was made of."""

from pathlib import Path

from tidegate.kernel.machine import compiled
from tidegate.kernel.windows import loop

KERNEL = Path(compiled.__file__).parents[1]


def test_it_is_kept_under_a_name_that_changes_with_any_of_the_sources():
    assert loop.run.py_func.__qualname__ == f"run_{compiled._digest_of_sources()}"


def test_all_that_is_compiled_is_among_the_sources():
    for module in KERNEL.rglob("*.py"):
        text = module.read_text("utf-8")
        assert "import numba" not in text or module == Path(compiled.__file__), "only compiled.py compiles"
        if "tidegate.kernel.machine.compiled" in text:
            assert module.parent.name in compiled._COMPILED
