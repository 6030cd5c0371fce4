"""MkDocs hook: Markdown as GitHub shows it becomes Markdown as the site shows it.

Pages link to files of the repository, wherever these are. A link to a file that the site has becomes a link to its
page; one to a module becomes a link to its API page; one to any other file leads to the repository, if `REPO_URL` is
set in the environment, and is plain text if not.
A link to nothing stays as it is, so that MkDocs reports it.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pages import MODULES, ROOT, root_page

FENCE = re.compile(r"^(```+).*?^\1$", re.M | re.S)
LINK = re.compile(r"(?P<image>!?)\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<target>[^)\s#]+)(?P<anchor>#[^)\s]*)?\)")
RUN = re.compile(r"^```python run$", re.M)
TITLE = re.compile(r"^```(\w+) file=(\S+)$", re.M)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Show the repository in the footer, where there is one."""
    if repository := config.extra["repository"]:
        config.extra["social"] = [{"icon": "fontawesome/brands/git-alt", "link": repository, "name": "Repository"}]
    return config


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite the links outside code, and the words behind the language of code."""
    source = Path(page.file.abs_src_path or "")
    if source.is_relative_to(ROOT):  # generated text is written for the site
        here = source.relative_to(ROOT).parent.as_posix()
        parts, end = [], 0
        for fence in FENCE.finditer(markdown):
            parts += [relinked(markdown[end : fence.start()], here, page.file, config, files), fence.group()]
            end = fence.end()
        markdown = "".join(parts) + relinked(markdown[end:], here, page.file, config, files)
    return TITLE.sub(r'```\1 title="\2"', RUN.sub("```python", markdown))


def relinked(text: str, here: str, origin: File, config: MkDocsConfig, files: Files) -> str:
    """`text` of a file in the folder `here` of the repository, with its links as the page `origin` needs them."""

    def link(found: re.Match[str]) -> str:
        image, words, target, anchor = found["image"], found["text"], found["target"], found["anchor"] or ""
        if re.match(r"\w+:", target):
            return found.group()
        path = posixpath.normpath(posixpath.join(here, target))
        if address := page_of(path, files):
            return f"{image}[{words}]({posixpath.relpath(address, posixpath.dirname(origin.src_uri) or '.')}{anchor})"
        if not (ROOT / path).exists():
            return found.group()
        repository = config.extra["repository"]
        return f"[{words}]({repository}/blob/HEAD/{path})" if repository else words

    return LINK.sub(link, text)


def page_of(path: str, files: Files) -> str | None:
    """Return the file of the site that shows the file or folder `path` of the repository."""
    if path.startswith("docs/"):
        wanted = path.removeprefix("docs/")
    elif path == "limbeck" or path.startswith("limbeck/"):
        wanted = f"{MODULES}/{re.sub(r'(/__init__)?[.]py$', '.md', path)}"
    elif "/" not in path and path.endswith(".md"):
        wanted = root_page(path)
    else:
        return None
    candidates = wanted, f"{wanted.removesuffix('.md')}/index.md"
    return next((address for address in candidates if files.get_file_from_path(address)), None)
