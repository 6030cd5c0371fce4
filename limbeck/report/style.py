"""How the page looks: one column on a phone, two charts a row on a screen, no scripts' furniture in print."""

from limbeck.report.charts import FONT, GRID, INK

ACCENT, QUIET, PAPER = "#2456c4", "#5a6475", "#f6f7fa"

STYLE = f"""
:root {{ color-scheme: light; }}
* {{ box-sizing: border-box; }}
body {{ margin: 0; background: {PAPER}; color: {INK}; font: 16px/1.55 {FONT}; -webkit-text-size-adjust: 100%; }}
main {{ max-width: 1080px; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }}
.eyebrow {{ color: {ACCENT}; font-weight: 600; font-size: .85rem; margin: 0 0 .2rem; }}
h1 {{ font-size: 1.9rem; line-height: 1.2; letter-spacing: -.02em; margin: 0; }}
h2 {{ font-size: 1.2rem; letter-spacing: -.01em; margin: 0 0 .25rem; }}
h3 {{ font-size: 1rem; margin: 1.25rem 0 .5rem; }}
ul {{ margin: .75rem 0 0; padding-left: 1.2rem; }}
p {{ margin: .25rem 0 .75rem; max-width: 74ch; }}
.quiet {{ color: {QUIET}; }}
section {{ background: #fff; border: 1px solid {GRID}; border-radius: 12px; padding: 1.25rem 1.4rem;
  margin-top: 1.1rem; }}
section > p {{ color: {QUIET}; }}
.run {{ border-left: 4px solid var(--run); padding: .1rem 0 .1rem .9rem; margin: 1rem 0; }}
.run ul {{ margin: .75rem 0 0; padding-left: 1.2rem; }}
p {{ margin: .2rem 0; }}
.run b {{ overflow-wrap: anywhere; }}
.charts {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: .5rem 1.5rem; }}
.chart {{ margin: 0; min-width: 0; overflow: hidden; break-inside: avoid; }}
figcaption {{ margin-top: .5rem; font-size: .88rem; font-weight: 600; overflow-wrap: anywhere; }}
.table {{ overflow-x: auto; }}
table {{ border-collapse: collapse; width: 100%; font-size: .92rem; font-variant-numeric: tabular-nums; }}
caption {{ text-align: left; font-weight: 600; padding: .75rem 0 .35rem; }}
th, td {{ text-align: right; padding: .38rem .6rem; white-space: nowrap; border-bottom: 1px solid {GRID}; }}
th {{ font-weight: 600; color: {QUIET}; font-size: .84rem; }}
th[scope=row] {{ text-align: left; color: {INK}; font-size: inherit; }}
td.random {{ color: {QUIET}; }}
tr.cut td {{ background: #eef3fd; }}
tr.cut td:first-child::before {{ content: "\\2702\\FE0E\\2002"; color: {ACCENT}; }}
code, pre {{ font: .84rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }}
code {{ overflow-wrap: anywhere; background: {PAPER}; border-radius: 4px; padding: .1rem .3rem; }}
pre {{ background: {PAPER}; border-radius: 8px; padding: .8rem 1rem; margin: .4rem 0 1rem; white-space: pre-wrap;
  overflow-wrap: anywhere; }}
details {{ margin: .4rem 0; }}
summary {{ cursor: pointer; color: {ACCENT}; }}
footer {{ color: {QUIET}; font-size: .85rem; margin-top: 1.5rem; }}
@media (max-width: 560px) {{ main {{ padding: 1.5rem .75rem 3rem; }} section {{ padding: 1rem .9rem; }} }}
@media print {{
  body {{ background: #fff; font-size: 11pt; }}
  main {{ max-width: none; padding: 0; }}
  section {{ border: 0; padding: 0; margin-top: 1.4rem; }}
  h2, h3, caption, section > p {{ break-after: avoid; }}
  table, .run {{ break-inside: avoid; }}
  .charts {{ grid-template-columns: repeat(2, minmax(0, 1fr)); gap: .25rem .75rem; }}
  .table {{ overflow: visible; }}
  table {{ font-size: .74rem; }}
  th, td {{ padding: .2rem .3rem; font-size: inherit; }}
}}
"""
