"""The page of a check: every finding with its first files as thumbnails; one file, no scripts, no network."""

import io
from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

from PIL import Image

from limbeck.data.check.issues import ISSUE_TYPES, Name
from limbeck.data.check.stats import ScanStats
from limbeck.data.decode import Decoded

PICTURES = 24  # files shown of each finding
SIDE = 112  # pixels of a thumbnail's longer side

STYLE = """
:root { color-scheme: light dark; --ink: #1c2433; --quiet: #5a6475; --paper: #f6f7fa; --card: #fff; --line: #e3e7ee;
  --no: #b3261e; --yes: #1d7044; }
@media (prefers-color-scheme: dark) { :root { --ink: #e9edf4; --quiet: #a8b1c0; --paper: #12161d; --card: #1a2029;
  --line: #2b3340; --no: #ff9c94; --yes: #7fd6a4; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.6rem; line-height: 1.25; letter-spacing: -.02em; margin: 0 0 .5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 0; }
p { margin: .2rem 0 0; color: var(--quiet); max-width: 74ch; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 1.1rem 1.3rem;
  margin-top: 1rem; }
.refused { color: var(--no); } .used { color: var(--yes); }
.files { display: grid; grid-template-columns: repeat(auto-fill, minmax(132px, 1fr)); gap: 1rem; margin-top: 1rem; }
figure { margin: 0; font-size: .78rem; line-height: 1.35; overflow-wrap: anywhere; }
.frame { height: 112px; display: flex; align-items: center; justify-content: center; margin-bottom: .35rem;
  background: var(--paper); border: 1px solid var(--line); border-radius: 8px; overflow: hidden; }
figcaption span { display: block; color: var(--quiet); }
"""


class Picture(NamedTuple):
    """A file with a finding, and what the store would hold of it, if anything."""

    path: str
    detail: str
    decoded: Decoded | None


def check_page(sentence: str, counts: ScanStats, pictures: Mapping[Name, Sequence[Picture]], more: str = "") -> str:
    """The whole page: `sentence` on top, then what is not used, then what is worth a look, then `more` sections."""
    sections = "".join(_section(kind, counts, pictures.get(kind, ())) for kind in counts.kinds()) + more
    return page(sentence, "Every file with its findings is in check.csv.", sections)


def page(sentence: str, note: str, sections: str) -> str:
    """A page of these sections, under a sentence and a note on where more is to be found."""
    nothing = "" if sections else "<section><p>Nothing to remark.</p></section>"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Limbeck: {escape(sentence)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{escape(sentence)}</h1>\n<p>{escape(note)}</p>\n"
        f"{sections}{nothing}</main>\n</body>\n</html>\n"
    )


def section(head: str, advice: str, number: int, shown: Sequence[Picture]) -> str:
    """A heading (HTML), what to do, and the first of a `number` of pictures."""
    more = f"<p>and {number - len(shown):,} more</p>" if number > len(shown) else ""
    figures = "".join(_figure(picture) for picture in shown)
    return f'<section><h2>{head}</h2><p>{escape(advice)}</p><div class="files">{figures}</div>{more}</section>\n'


def _section(kind: Name, counts: ScanStats, shown: Sequence[Picture]) -> str:
    action = "used" if counts.uses(kind) else "ignored" if ISSUE_TYPES[kind].action == "ignored" else "refused"
    number = counts.found[kind]
    head = f'{ISSUE_TYPES[kind].title.capitalize()}: {number:,}, <span class="{action}">{action}</span>'
    return section(head, ISSUE_TYPES[kind].advice, number, shown)


def _figure(picture: Picture) -> str:
    shown = picture.decoded
    frame = "" if shown is None else f'<div class="frame"><img alt="" src="{_thumbnail(shown)}"></div>'
    return (
        f"<figure>{frame}<figcaption>{escape(picture.path)}<span>{escape(picture.detail)}</span></figcaption></figure>"
    )


def _thumbnail(decoded: Decoded) -> str:
    """What the store holds, in the proportions of the original, as a data URI."""
    scale = SIDE / max(decoded.width, decoded.height)
    size = max(1, round(decoded.width * scale)), max(1, round(decoded.height * scale))
    buffer = io.BytesIO()
    Image.fromarray(decoded.pixels).resize(size).save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{b64encode(buffer.getvalue()).decode()}"
