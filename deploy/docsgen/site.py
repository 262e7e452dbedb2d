"""Write mkdocs.yml and llms.txt from the index of the documentation: python -m deploy.docsgen.site."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "deploy" / "docs"
MKDOCS = ROOT / "mkdocs.yml"
LLMS = DOCS / "llms.txt"
INDEX = "index.md"
REPOSITORY = "https://github.com/turnout-router/turnout"
"""The repository's address, for links to files that are not in the documentation."""
RAW = "https://raw.githubusercontent.com/turnout-router/turnout/main/deploy/docs"

HEAD = f"""# Written by `python -m deploy.docsgen.site` from deploy/docs/index.md.
site_name: Turnout
site_description: A self-hosted router for server-side analytics events.
repo_url: {REPOSITORY}
edit_uri: edit/main/deploy/docs/
docs_dir: deploy/docs
site_dir: build/site
plugins: []
strict: true
validation:
  nav: {{omitted_files: warn, not_found: warn, absolute_links: warn}}
  links: {{not_found: warn, anchors: warn, absolute_links: warn, unrecognized_links: warn}}
markdown_extensions: [tables, fenced_code, {{toc: {{permalink: true}}}}]
nav:
  - Start: {INDEX}
"""


@dataclass(frozen=True)
class IndexEntry:
    """A page that the index links to; `path` is relative to the documentation's folder."""

    title: str
    path: str
    summary: str

    @property
    def children(self) -> list[str]:
        """Return the other pages of its folder, if it is the folder's index."""
        path = DOCS / self.path
        if path.parent == DOCS or path.name not in {INDEX, "README.md"}:
            return []
        return [str(page.relative_to(DOCS)) for page in sorted(path.parent.glob("*.md")) if page != path]


def sections() -> Iterator[tuple[str, list[IndexEntry]]]:
    """Yield each audience of the index with its pages."""
    _, *parts = re.split(r"^## (.*)\n", (DOCS / INDEX).read_text(), flags=re.MULTILINE)
    for heading, text in zip(parts[::2], parts[1::2], strict=True):
        pages = re.findall(r"^- \[(.*?)\]\((\S+?\.md)\): (.*)$", text, re.MULTILINE)
        yield heading, [IndexEntry(*page) for page in pages]


def mkdocs() -> str:
    """Return mkdocs.yml. A page is in the navigation once, with its first audience."""
    lines, seen = [HEAD], {INDEX}
    for heading, pages in sections():
        lines.append(f"  - {heading}:\n")
        own = {page.path for page in pages}
        for page in pages:
            if page.path in seen:
                continue
            children = [path for path in page.children if path not in own]
            if children:
                lines += [f"      - {page.title}:\n", *(f"          - {path}\n" for path in (page.path, *children))]
            else:
                lines.append(f"      - {page.title}: {page.path}\n")
            seen |= {page.path, *children}
    return "".join(lines)


def llms() -> str:
    """Return llms.txt, an index for language models: https://llmstxt.org."""
    summary = (DOCS / INDEX).read_text().split("\n\n")[1].replace("\n", " ")
    lines = [f"# Turnout\n\n> {summary}\n"]
    for heading, pages in sections():
        lines.append(f"\n## {heading}\n\n")
        lines += [f"- [{page.title}]({RAW}/{page.path}): {page.summary}\n" for page in pages]
    return "".join(lines)


if __name__ == "__main__":
    MKDOCS.write_text(mkdocs())
    LLMS.write_text(llms())
