"""Build the site of the documentation into site/: the pages of docs/, the results, and the public functions.

    python -m tools.site

The pages are copied to build/docs, where their links to results and log lead to pages of the site. A link that leads
nowhere stops the build.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STAGED = ROOT / "build" / "docs"
OTHERS = {
    "benchmarks/RESULTS.md": "results.md",
    "benchmarks/LOG.md": "log.md",
    "benchmarks/README.md": "measuring.md",
}
"""Pages of the site that lie beside docs/ in the repository."""


def staged_links(text: str, place: str) -> str:
    """Point links of a page to where the site has its targets.

    Args:
        text: Markdown.
        place: Folder of the page in the repository, `docs`, `benchmarks` or `benchmarks/results`.
    """

    def moved(link: re.Match[str]) -> str:
        words, target, anchor = link["words"], link["target"], link["anchor"] or ""
        if re.match(r"[a-z]+:", target):
            return link[0]
        path = (ROOT / place / target).resolve().relative_to(ROOT).as_posix()
        site = _in_site(path)
        if site is None:
            return f"`{path}`"
        if place == "benchmarks/results":
            site = site.removeprefix("results/") if site.startswith("results/") else f"../{site}"
        return f"[{words}]({site}{anchor})"

    return re.sub(r"(?<!!)\[(?P<words>[^\]]+)\]\((?P<target>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)", moved, text)


def _in_site(path: str) -> str | None:
    """Where the site has a file of the repository, if it has it."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if path.startswith("benchmarks/results/") and path.endswith(".md"):
        return path.removeprefix("benchmarks/")
    return OTHERS.get(path)


def stage() -> None:
    """Fill build/docs."""
    shutil.rmtree(STAGED, ignore_errors=True)
    (STAGED / "results").mkdir(parents=True)
    for file in (ROOT / "docs").iterdir():
        if file.suffix == ".md":
            (STAGED / file.name).write_text(staged_links(file.read_text("utf-8"), "docs"), "utf-8")
        else:
            shutil.copy(file, STAGED)
    for path, target in OTHERS.items():
        (STAGED / target).write_text(staged_links((ROOT / path).read_text("utf-8"), "benchmarks"), "utf-8")
    for file in (ROOT / "benchmarks" / "results").glob("*.md"):
        text = staged_links(file.read_text("utf-8"), "benchmarks/results")
        (STAGED / "results" / file.name).write_text(text, "utf-8")


def main() -> None:
    """Build."""
    stage()
    zensical = Path(sys.executable).with_name("zensical")
    subprocess.run([zensical, "build", "--clean", "--strict"], cwd=ROOT, check=True)
    api(ROOT / "site" / "api")


def api(out: Path) -> None:
    """Pages of the public functions and classes."""
    import pdoc

    import bort

    # They are loaded when first named; pdoc looks for what is there.
    vars(bort).update({name: getattr(bort, name) for name in bort.__all__})
    pdoc.render.configure(docformat="google")
    pdoc.pdoc("bort", "!bort.__main__", output_directory=out)


if __name__ == "__main__":
    main()
