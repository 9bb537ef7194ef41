"""numba keeps machine code on disk and makes it again when the file of the function that Python calls has changed, not
when that of a function which that one calls has: what is older than any of them is thrown away before a test runs."""

from pathlib import Path

KERNEL = Path(__file__).parents[2] / "src" / "tidegate" / "kernel"


def pytest_configure():
    changed = max(path.stat().st_mtime for path in KERNEL.glob("*.py") if "kernel.compiled" in path.read_text("utf-8"))
    for kept in (KERNEL / "__pycache__").glob("*.nb?"):
        if kept.stat().st_mtime < changed:
            kept.unlink(missing_ok=True)
