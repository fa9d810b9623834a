"""Great Expectations' Data Docs, made readable without a network.

The generated pages take their styles, icons and scripts from CDNs and are bare without them; the index is drawn by
a script and stays empty. Here each page gets one small embedded style sheet instead, and the index is written anew
as a plain table that names the rejected rows.
"""

import html
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from minivlm.data.validation.verdict import FileVerdict, row_id

_LEVELS = ("table", "rows", "accepted")  # what the names of suites end with
_LISTED = 50  # rejected rows of a file shown on the index; all of them are in its JSON report

# Class names are those of Bootstrap and Font Awesome that the generated pages use.
_STYLE = """
:root { color-scheme: light; --ink: #1f2933; --soft: #616e7c; --line: #d9e0e6; --tint: #f4f6f8; --blue: #1d5f99;
  --good: #1b7f4b; --bad: #b3261e; }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); font: 15px/1.5 system-ui, "Noto Sans CJK SC", "PingFang SC", sans-serif; }
a { color: var(--blue); }
h1 { font-size: 24px; margin: 0 0 4px; } h2 { font-size: 18px; margin: 32px 0 8px; }
h4, h5, h6 { margin: 0 0 6px; font-size: 16px; } .lead { color: var(--soft); margin: 0 0 16px; }
main { max-width: 1000px; margin: 0 auto; padding: 28px 24px 60px; }
body > nav { border-bottom: 1px solid var(--line); padding: 12px 24px; height: auto !important; }
body > nav nav { display: flex; gap: 20px; align-items: baseline; flex-wrap: wrap; }
.navbar-brand a { font-weight: 600; text-decoration: none; }
.breadcrumb { display: flex; gap: 8px; list-style: none; margin: 0; padding: 0; color: var(--soft); }
.breadcrumb li:first-child { display: none; }
body > .container-fluid { max-width: 1240px; margin: 0 auto; padding: 24px; }
body > .container-fluid > .row { display: grid; grid-template-columns: 220px minmax(0, 1fr); gap: 32px; }
.sticky { position: sticky; top: 20px; }
.card { border: 1px solid var(--line); border-radius: 6px; margin-bottom: 16px; overflow: hidden; }
.card-header { background: var(--tint); padding: 6px 12px; } .sticky .card-body { padding: 8px 12px; }
.nav { list-style: none; margin: 0; padding: 0 !important; max-height: 60vh; overflow: auto; }
.nav-link { display: block; padding: 2px 0; text-decoration: none; word-break: normal !important; }
.btn-group { display: flex; flex-wrap: wrap; gap: 6px; } hr { display: none; } .btn input { display: none; }
.btn { border: 1px solid var(--line); border-radius: 4px; padding: 2px 10px; cursor: pointer; }
.ge-section { margin-bottom: 26px; }
.ge-section .alert { border-bottom: 2px solid var(--line); margin-bottom: 8px; }
.h6, strong { font-weight: 600; } .badge { background: var(--tint); border-radius: 4px; padding: 1px 6px; }
table { border-collapse: collapse; width: 100%; } table table { width: auto; margin-top: 10px; }
th { text-align: left; color: var(--soft); font-weight: 600; } thead[hidden] { display: none; }
th, td { padding: 6px 16px 6px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
.table > thead th:first-child { width: 72px; } .table > thead th:last-child { width: 190px; }
.table-sm > tbody > tr > td:first-child { width: 260px; }
.show-scrollbars { overflow: auto; max-height: 60vh; overflow-wrap: break-word; }
.collapse { display: none; } .collapse:target { display: block; padding: 12px; }
.fa-check-circle::before { content: "\\2713"; } .fa-times::before { content: "\\2717"; }
.fas { font-style: normal; font-weight: 700; } .text-success, .good { color: var(--good); }
.text-danger, .bad { color: var(--bad); } code { font-size: 13px; }
body.failed-only .ge-section:has(.hide-succeeded-validations-column-section-target-child) { display: none; }
body.failed-only tr:has(> .hide-succeeded-validation-target-child) { display: none; }
@media (max-width: 800px) { body > .container-fluid > .row { grid-template-columns: minmax(0, 1fr); }
  main > table { display: block; overflow-x: auto; } .sticky { position: static; } }
"""
# The two buttons of a validation page call these by name.
_SCRIPT = """
function showAllValidations() { document.body.classList.remove("failed-only"); }
function hideSucceededValidations() { document.body.classList.add("failed-only"); }
"""


def offline_docs(folder: Path, verdicts: Iterable[FileVerdict]) -> None:
    """Rewrite the Data Docs in `folder` in place so that no page asks for anything outside it."""
    for page in sorted(folder.rglob("*.html")):
        page.write_text(_offline_page(page.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")
    shutil.rmtree(folder / "static", ignore_errors=True)  # 4 MB of fonts and moving pictures that no page shows
    index = _index(folder, list(verdicts))
    (folder / "index.html").write_text(index, encoding="utf-8", newline="\n")


def _head(title: str) -> str:
    return (
        f'<head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style><script>{_SCRIPT}</script></head>"
    )


def _offline_page(text: str) -> str:
    """One generated page without CDN links, remote logo, scripts and newsletter."""
    crumb = re.search(r'aria-current="page">([^<]*)<', text)
    head, _, body = text.partition("</head>")
    body = re.sub(r"<script\b.*?</script>", "", body, flags=re.S)
    body = re.sub(r"<footer\b.*?</footer>", "", body, flags=re.S)
    body = re.sub(r"<img\b[^>]*>", "Data Docs", body)
    body = body.replace("Data asset: None<br>", "")
    title = html.unescape(crumb.group(1)) if crumb else "Data Docs"
    return head.partition("<head>")[0] + _head(title) + body


def _index(folder: Path, verdicts: list[FileVerdict]) -> str:
    lines = "".join(_index_line(folder, verdict) for verdict in verdicts)
    details = "".join(_rejected(verdict) for verdict in verdicts if verdict.rejected or verdict.table_faults)
    return (
        f'<!DOCTYPE html>\n<html lang="en">{_head("Data Docs")}<body><main><h1>Data Docs</h1>'
        '<p class="lead">What the gate expected of each file, and what it found.</p>'
        '<table><thead><tr><th>File</th><th>Gate</th><th class="number">Rows</th><th class="number">Accepted</th>'
        '<th class="number">Rejected</th><th>Results</th><th>Expectations</th></tr></thead>'
        f"<tbody>{lines}</tbody></table>{details}</main></body></html>\n"
    )


def _index_line(folder: Path, verdict: FileVerdict) -> str:
    links: dict[str, list[str]] = {"validations": [], "expectations": []}
    for level in _LEVELS:
        name = f"{verdict.file}_{level}"
        for kind, pattern in (("validations", f"{name}/**/*.html"), ("expectations", f"{name}.html")):
            pages = sorted((folder / kind).glob(pattern))
            for number, page in enumerate(pages, 1):  # a large table is checked in pieces, a page for each
                label = f"{level} {number}" if len(pages) > 1 else level
                links[kind].append(f'<a href="{html.escape(page.relative_to(folder).as_posix())}">{label}</a>')
    outcome = '<span class="good">passed</span>' if verdict.passed else '<span class="bad">failed</span>'
    numbers = (verdict.rows, verdict.accepted, len(verdict.rejected))
    return (
        f"<tr><td>{html.escape(verdict.file)}</td><td>{outcome}</td>"
        + "".join(f'<td class="number">{number:,}</td>' for number in numbers)
        + f"<td>{' · '.join(links['validations'])}</td><td>{' · '.join(links['expectations'])}</td></tr>"
    )


def _rejected(verdict: FileVerdict) -> str:
    """What is at fault in one file: the file itself, or its rows with all their reasons."""
    title = f"<h2>{html.escape(verdict.file)}: what is at fault</h2>"
    faults = "".join(f'<p class="bad">{html.escape(fault)}</p>' for fault in verdict.table_faults)
    rows = "".join(
        f"<tr><td><code>{html.escape(row_id(verdict.file, row))}</code></td>"
        f"<td>{'<br>'.join(html.escape(reason) for reason in reasons)}</td></tr>"
        for row, reasons in list(verdict.rejected.items())[:_LISTED]
    )
    if not rows:
        return title + faults
    total = len(verdict.rejected)
    more = f"<p>The first {_LISTED:,} of {total:,}; the JSON report lists them.</p>" if total > _LISTED else ""
    head = "<thead><tr><th>Row</th><th>Reasons</th></tr></thead>"
    return f"{title}{faults}<table>{head}<tbody>{rows}</tbody></table>{more}"
