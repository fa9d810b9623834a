"""The page's style sheet. Colours are Okabe and Ito's, which colour-blind readers can tell apart."""

CSS = """
:root {
  color-scheme: light dark;
  --page: #f7f7f5; --card: #ffffff; --ink: #1d2129; --soft: #5d6673; --line: #e2e4e8;
  --pretrain: #b36b00; --sft: #0072b2; --wrong: #fde0d2; --wrong-ink: #9a3412; --good: #006d4f;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14171c; --card: #1d2128; --ink: #e8eaed; --soft: #a2abb8; --line: #343a44;
    --pretrain: #e69f00; --sft: #56b4e9; --wrong: #57291a; --wrong-ink: #ffb999; --good: #4fd1a5;
  }
}
* { box-sizing: border-box; }
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
.lead, .note { color: var(--soft); max-width: 78ch; }
.note { font-size: 13.5px; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 190px), 1fr)); gap: 14px;
  margin: 22px 0; }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); gap: 14px; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 16px 18px; }
.cards .card { padding: 14px 15px; font-size: 14px; }
.cards h3 { font-size: 12.5px; color: var(--soft); min-height: 36px; margin: 0 0 4px; line-height: 1.4; }
.cards .note { display: block; }
.figure { font-size: 32px; font-weight: 650; line-height: 1.15; font-variant-numeric: tabular-nums; }
.figure small { font-size: 15px; font-weight: 400; color: var(--soft); }
.meter { position: relative; height: 8px; border-radius: 4px; background: var(--line); margin: 10px 0 8px; }
.meter i { position: absolute; inset: 0 auto 0 0; border-radius: 4px; background: var(--sft); }
.meter b { position: absolute; top: -4px; bottom: -4px; width: 3px; background: var(--ink); border-radius: 2px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 8px 14px 8px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
tr:last-child > td, tr:last-child > th { border-bottom: 0; }
thead th { font-size: 13px; color: var(--soft); font-weight: 600; vertical-align: bottom; }
tbody th { font-weight: 500; }
td.number, th.number { text-align: right; white-space: nowrap; }
td.number small { display: block; color: var(--soft); font-size: 12.5px; }
.captions td { width: 40%; font-size: 16px; }
.captions td:first-child { width: 190px; }
.captions img { display: block; width: 168px; border-radius: 8px; }
.captions figcaption { font-size: 13px; color: var(--soft); margin-top: 4px; }
.captions figure { margin: 0; }
mark { background: var(--wrong); color: var(--wrong-ink); border-radius: 3px; padding: 0 2px;
  text-decoration: underline wavy 1px; text-underline-offset: 4px; }
.mistakes { display: flex; flex-wrap: wrap; gap: 4px 6px; margin-top: 8px; font-size: 12.5px;
  color: var(--soft); }
.mistakes span { border: 1px solid var(--line); border-radius: 99px; padding: 0 9px; }
.mistakes .right { color: var(--good); border-color: currentColor; }
.key { display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: 13px; color: var(--soft); margin: 2px 0 10px; }
.key i { display: inline-block; width: 14px; height: 10px; border-radius: 2px; margin-right: 6px; }
.key i.tick { width: 3px; height: 13px; vertical-align: -2px; background: var(--ink); }
.key i.dots { height: 0; border-top: 2px dotted var(--soft); border-radius: 0; vertical-align: 3px; }
i.pretrain { background: var(--pretrain); }
i.sft { background: var(--sft); }
svg + .note { margin: 10px 0 0; }
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg text { fill: var(--soft); font-size: 12px; font-family: inherit; }
svg text.value { fill: var(--ink); }
svg text.name { fill: var(--ink); font-size: 13px; }
svg .grid { stroke: var(--line); stroke-width: 1; }
svg .track { fill: var(--line); opacity: 0.55; }
svg .line { fill: none; stroke-width: 2; stroke-linejoin: round; }
svg .pretrain.line, svg .pretrain.dot { stroke: var(--pretrain); }
svg .sft.line, svg .sft.dot { stroke: var(--sft); }
svg .dot { fill: var(--card); stroke-width: 2; }
svg .dotted { stroke-dasharray: 2 4; }
svg rect.pretrain { fill: var(--pretrain); }
svg rect.sft { fill: var(--sft); }
svg .tick { fill: var(--ink); stroke: var(--card); stroke-width: 1; }
details { margin-top: 14px; }
summary { cursor: pointer; font-weight: 600; }
footer { margin-top: 48px; color: var(--soft); font-size: 13px; }
@media print {
  body { background: #fff; }
  .card { break-inside: avoid; }
}
"""
