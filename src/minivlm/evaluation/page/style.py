"""The page's style sheet. Colours are Okabe and Ito's, which colour-blind readers can tell apart."""

CSS = """
:root {
  color-scheme: light dark;
  --page: #f7f7f5; --card: #ffffff; --ink: #1d2129; --soft: #596270; --line: #e2e4e8; --on-sft: #ffffff;
  --pretrain: #b36b00; --sft: #0072b2; --earlier: #767d88; --wrong: #fde0d2; --wrong-ink: #9a3412; --good: #006d4f;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14171c; --card: #1d2128; --ink: #e8eaed; --soft: #a9b2bf; --line: #343a44; --on-sft: #10141a;
    --pretrain: #e69f00; --sft: #56b4e9; --earlier: #8d96a3; --wrong: #57291a; --wrong-ink: #ffb999;
    --good: #4fd1a5;
  }
}
* { box-sizing: border-box; }
html { scroll-behavior: smooth; }
body {
  margin: 0; background: var(--page); color: var(--ink); font-size: 15px; line-height: 1.55;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans",
    "Noto Sans CJK SC", "Noto Sans SC", "PingFang SC", "Hiragino Sans GB", "Microsoft YaHei",
    "WenQuanYi Micro Hei", sans-serif;
}
main { max-width: 1120px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 6px; letter-spacing: -0.01em; }
h2 { font-size: 20px; margin: 44px 0 4px; }
h3 { font-size: 15px; margin: 0 0 8px; }
p { margin: 0 0 14px; }
a { color: var(--sft); text-underline-offset: 3px; }
a:focus-visible, summary:focus-visible { outline: 3px solid var(--sft); outline-offset: 2px; border-radius: 3px; }
section { scroll-margin-top: 12px; }
nav ul { display: flex; flex-wrap: wrap; gap: 4px 18px; list-style: none; margin: 0; padding: 0; }
small { font-size: 12.5px; font-weight: 400; color: var(--soft); }
th small, td small { display: block; }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%);
  white-space: nowrap; }
.lead, .note { color: var(--soft); max-width: 78ch; }
.note { font-size: 13.5px; }
.card > .note { margin: 12px 0 0; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 190px), 1fr)); gap: 14px;
  margin: 22px 0; }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); gap: 14px; }
.panels + .card, .card + .card, .panels + .panels { margin-top: 14px; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 16px 18px;
  min-width: 0; }
.panels > .card, .cards > .card { margin: 0; }
.cards .card { padding: 14px 15px; font-size: 14px; }
.cards h3 { font-size: 12.5px; color: var(--soft); min-height: 36px; margin: 0 0 4px; line-height: 1.4; }
.cards .note { display: block; }
.figure { font-size: 32px; font-weight: 650; line-height: 1.15; font-variant-numeric: tabular-nums; }
.figure small { font-size: 15px; }
.meter { position: relative; height: 8px; border-radius: 4px; background: var(--line); margin: 10px 0 8px; }
.meter i { position: absolute; inset: 0 auto 0 0; border-radius: 4px; }
.meter b { position: absolute; top: -4px; bottom: -4px; width: 3px; background: var(--ink); border-radius: 2px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
caption { height: 1px; }
th, td { text-align: left; padding: 8px 14px 8px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th:last-child, td:last-child { padding-right: 0; }
tr:last-child > td, tr:last-child > th { border-bottom: 0; }
thead th { font-size: 13px; color: var(--soft); font-weight: 600; vertical-align: bottom; }
tbody th { font-weight: 500; }
td.number, th.number { text-align: right; }
.scores th.number { width: 15%; } .scores td.number small { white-space: nowrap; }
.bars { display: grid; gap: 12px; }
.bars > div { display: grid; grid-template-columns: 64px minmax(0, 1fr); align-items: center; gap: 0 12px; }
.bars strong { font-weight: 500; text-align: right; font-size: 14px; }
.bar { display: grid; grid-template-columns: minmax(0, 1fr) 44px; align-items: center; gap: 8px; height: 18px; }
.bar span { position: relative; height: 13px; border-radius: 2px; background: var(--line); }
.bar i { position: absolute; inset: 0 auto 0 0; border-radius: 2px; }
.bar b, .key i.tick { background: var(--ink); box-shadow: 0 0 0 1px var(--card); }
.bar b { position: absolute; top: -2px; bottom: -2px; width: 3px; margin-left: -1px; }
.bar em { font-size: 13px; font-style: normal; text-align: right; font-variant-numeric: tabular-nums; }
.key { display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: 13px; color: var(--soft); margin: 2px 0 10px; }
.key i { display: inline-block; width: 14px; height: 10px; border-radius: 2px; margin-right: 6px; }
.key i.tick { width: 3px; height: 13px; vertical-align: -2px; }
.key i.line { height: 0; width: 20px; border-top: 2px solid; border-radius: 0; vertical-align: 4px; }
.key i.dots { width: 9px; height: 9px; border: 2px solid; border-radius: 50%; background: var(--card); }
.key i.pretrain.line, .key i.pretrain.dots { border-color: var(--pretrain); }
.key i.sft.line, .key i.sft.dots { border-color: var(--sft); }
.key i.earlier { border-color: var(--earlier); } .key i.earlier.line { border-top-style: dashed; }
.key i.earlier.dots { border-radius: 0; }
i.pretrain { background: var(--pretrain); }
i.sft { background: var(--sft); }
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg text { fill: var(--soft); font-size: 12px; font-family: inherit; }
svg text.value { fill: var(--ink); }
svg text.name { fill: var(--ink); font-size: 13px; }
svg .grid { stroke: var(--line); stroke-width: 1; }
svg .line { fill: none; stroke-width: 2; stroke-linejoin: round; }
svg .pretrain.line, svg .pretrain.dot { stroke: var(--pretrain); }
svg .sft.line, svg .sft.dot { stroke: var(--sft); }
svg .earlier.line, svg .earlier.dot { stroke: var(--earlier); stroke-width: 1.5; }
svg .earlier.line { stroke-dasharray: 6 4; }
svg .dot { fill: var(--card); stroke-width: 2; }
svg .dotted, svg .earlier.dotted { stroke-dasharray: 2 4; }
svg rect.pretrain { fill: var(--pretrain); }
svg rect.sft { fill: var(--sft); }
svg .tick { fill: var(--ink); stroke: var(--card); stroke-width: 1; }
details { margin-top: 14px; }
summary { cursor: pointer; font-weight: 600; margin-bottom: 10px; }
footer { margin-top: 48px; color: var(--soft); font-size: 13px; }
@media (max-width: 640px) {
  main { padding: 24px 14px 40px; }
  .card { padding: 14px; }
  .panels { grid-template-columns: minmax(0, 1fr); }
  .panels svg text { font-size: 17px; } .panels svg text.name { font-size: 14px; }
}
@media screen and (max-width: 880px) {
  table, tbody, tr, td, tbody th { display: block; width: auto !important; }
  thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  tr { padding: 10px 0; border-bottom: 1px solid var(--line); } tr:last-child { border: 0; }
  th, td, tr:last-child > td { border: 0; padding: 3px 0; }
  tbody th { font-weight: 650; } td:empty { display: none; }
  td::before { content: attr(data-label); text-align: left; font-size: 13px; color: var(--soft); }
  td.number { display: flex; justify-content: space-between; gap: 14px; }
  .captions td, td:not(.number) { margin-top: 6px; }
}
@media print {
  :root { --page: #fff; --card: #fff; --ink: #000; --soft: #444; --line: #ccc; --sft: #0072b2; --pretrain: #b36b00;
    --earlier: #777; --wrong: #fff; --wrong-ink: #9a3412; --good: #006d4f; --on-sft: #fff; color-scheme: light; }
  body { font-size: 11pt; } nav { display: none; }
  main { max-width: none; padding: 0; }
  .card, tr, figure { break-inside: avoid; } .card:has(table) { break-inside: auto; }
  h2, h3 { break-after: avoid; }
  i, b, mark { print-color-adjust: exact; }
  table { font-size: 8.5pt; } th, td { padding-right: 8px; } thead th { font-size: 8pt; }
  small, td.number small { font-size: 7.5pt; white-space: normal !important; } .scores th.number { width: auto; }
}
"""
