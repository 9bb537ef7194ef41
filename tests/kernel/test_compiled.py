"""Machine code that is kept on disk must not outlive the text that it was made of."""

from pathlib import Path

from tidegate.kernel import compiled, loop

KERNEL = Path(compiled.__file__).parent


def test_it_is_kept_under_a_name_that_changes_with_any_of_the_sources():
    assert loop.run.py_func.__qualname__ == f"run_{compiled._digest_of_sources()}"


def test_all_that_is_compiled_is_among_the_sources():
    for module in KERNEL.glob("*.py"):
        if "import numba" in module.read_text("utf-8"):
            assert module == Path(compiled.__file__), "only compiled.py compiles"
