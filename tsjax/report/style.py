"""The page's style sheet: two themes, one column, no horizontal scroll.

The hues are Okabe and Ito's (2008, "Color Universal Design"), which people
with any common colour blindness tell apart; the dark theme lightens them.
"""

_LIGHT = """
--paper:#fdfdfb;--panel:#fff;--ink:#1b1d21;--soft:#5b616b;--rule:#dfe1e4;
--grid:#eceded;--right:#0072b2;--wrong:#d55e00;--note:#fff5e8;
--hit:#0072b2;--miss:#d55e00;
--c0:#0072b2;--c1:#d55e00;--c2:#008a65;--c3:#b0508c;--c4:#8f7000;--c5:#5f6875
"""
_DARK = """
--paper:#141619;--panel:#1b1e22;--ink:#e9eaec;--soft:#a2a9b3;--rule:#343940;
--grid:#2a2e34;--right:#4aa8e0;--wrong:#ff8a4c;--note:#2c241a;
--hit:#2a7cb5;--miss:#c4581a;
--c0:#5ab4ec;--c1:#ff8a4c;--c2:#3ccb9d;--c3:#ea9acb;--c4:#e6c14a;--c5:#aab2bd
"""
_STAGES = "".join(f".s{k}{{--c:var(--c{k})}}" for k in range(6))

SHEET = f""":root{{color-scheme:light dark;{_LIGHT}}}
@media (prefers-color-scheme:dark){{:root{{{_DARK}}}}}
{_STAGES}
*{{box-sizing:border-box}}
html{{-webkit-text-size-adjust:100%}}
body{{margin:0;background:var(--paper);color:var(--ink);
  font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",
  "DejaVu Sans",sans-serif}}
main{{max-width:1120px;margin:0 auto;padding:40px 24px 72px}}
h1,h2,h3{{font-weight:600;line-height:1.25;text-wrap:balance;
  overflow-wrap:anywhere}}
h1{{font:500 clamp(1.45rem,3.4vw,2.1rem)/1.28 Charter,"Bitstream Charter",
  "Iowan Old Style",Georgia,"DejaVu Serif",serif;margin:.3em 0 .7em;
  letter-spacing:-.01em}}
h2{{font-size:1.25rem;margin:2.6em 0 .2em;padding-top:.9em;
  border-top:1px solid var(--rule)}}
h3{{font-size:.95rem;margin:0 0 .5em}}
p{{margin:.5em 0;max-width:44em;overflow-wrap:anywhere}}
code,pre{{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,
  "DejaVu Sans Mono",monospace;font-size:.88em}}
h1 code{{font-size:.86em;letter-spacing:-.03em}}
pre{{white-space:pre-wrap;overflow-wrap:anywhere;margin:0}}
.kicker{{color:var(--soft);font-size:.85rem;margin:0}}
.lead,.caption{{color:var(--soft)}}
.caveat{{background:var(--note);border-left:3px solid var(--wrong);
  padding:.5em .9em;border-radius:0 6px 6px 0}}
.hero{{display:grid;gap:8px 48px;align-items:start;
  grid-template-columns:minmax(0,1fr)}}
@media (min-width:860px){{.hero{{
  grid-template-columns:minmax(0,1fr) minmax(0,400px)}}}}
.grid{{display:grid;gap:20px;margin:1.1em 0;
  grid-template-columns:repeat(auto-fill,minmax(min(100%,320px),1fr))}}
figure{{margin:0;min-width:0;background:var(--panel);padding:14px 16px 12px;
  border:1px solid var(--rule);border-radius:8px}}
figcaption{{color:var(--soft);font-size:.84rem;line-height:1.45;
  margin-top:.6em;overflow-wrap:anywhere}}
svg{{display:block;width:100%;max-width:440px;height:auto;margin:0 auto;
  font-size:12px;font-variant-numeric:tabular-nums}}
svg text{{fill:var(--soft)}}
svg .ink{{fill:var(--ink)}} svg .number{{font-weight:600}}
svg .count{{font-size:11px}}
svg .halo{{paint-order:stroke;stroke:var(--panel);stroke-width:3px;
  stroke-linejoin:round}}
.plate{{fill:var(--panel)}}
.grid line.grid,line.grid{{stroke:var(--grid)}}
.tick{{stroke:var(--rule)}} .zero{{stroke:var(--soft)}}
.span{{stroke:var(--rule);stroke-width:3;stroke-linecap:round}}
.mark{{fill:var(--c);stroke:var(--panel);stroke-width:1.2}}
.seed{{stroke:var(--c);stroke-width:2;opacity:.55}}
.thin,.thick{{fill:none;stroke:var(--c);stroke-linejoin:round;
  stroke-linecap:round}}
.thin{{stroke-width:1;opacity:.45}} .thick{{stroke-width:2.4}}
.cells{{fill:var(--grid);fill-opacity:.45}}
.right{{fill:var(--hit)}} .wrong{{fill:var(--miss)}} .bar{{fill:var(--c)}}
.pale{{fill-opacity:.22}} .dot{{fill:var(--c);fill-opacity:.5}}
.framed{{fill:none;stroke:var(--ink);stroke-width:1.5}}
h4{{font-size:.88rem;font-weight:600;margin:1em 0 .5em;overflow-wrap:anywhere}}
.wide{{margin:1.1em 0}}
.cards{{display:grid;gap:10px 18px;list-style:none;margin:0;padding:0;
  grid-template-columns:repeat(auto-fill,minmax(min(100%,200px),1fr))}}
.cards li{{display:flex;gap:10px;align-items:flex-start;min-width:0}}
.cards img{{flex:none;width:64px;height:64px;object-fit:contain;
  image-rendering:pixelated;background:#000;border:1px solid var(--rule);
  border-radius:4px}}
.cards div{{min-width:0}} .cards p{{margin:0;font-size:.85rem;line-height:1.35}}
.cards dl{{display:block;margin:.15em 0 0;font-size:.8rem;line-height:1.4}}
.cards dt,.cards dd{{display:inline;padding:0;font-size:1em}}
.cards dt::after{{content:": "}} .cards small{{color:var(--soft)}}
.cards .hit dd::before{{content:"✓ ";color:var(--right)}}
.cards .miss dd::before{{content:"✗ ";color:var(--wrong)}}
.legend{{display:flex;flex-wrap:wrap;gap:4px 18px;list-style:none;padding:0;
  margin:.8em 0 0;font-size:.9rem}}
.legend li{{overflow-wrap:anywhere}}
svg.key{{display:inline-block;width:14px;height:14px;margin:0 6px -2px 0;
  flex:none}}
.scroll{{overflow-x:auto;margin:1em 0;border:1px solid var(--rule);
  border-radius:8px;background:var(--panel)}}
.scroll:focus-visible{{outline:2px solid var(--right)}}
table{{border-collapse:collapse;font-size:.9rem;width:100%;
  font-variant-numeric:tabular-nums}}
th,td{{padding:9px 8px;text-align:right;white-space:nowrap;
  border-top:1px solid var(--rule);vertical-align:top}}
thead th{{border-top:0;color:var(--soft);font-weight:500;font-size:.82rem;
  vertical-align:bottom;white-space:normal;line-height:1.3}}
th:first-child,td.words{{text-align:left}}
th:first-child{{padding-left:12px}}
td:last-child,th:last-child{{padding-right:12px}}
tbody th{{font-weight:600}}
tbody th:first-child{{position:sticky;left:0;background:var(--panel);
  max-width:16em;white-space:normal;overflow-wrap:anywhere;min-width:clamp(8.5em,14vw,13em)}}
th small,td small{{color:var(--soft);font-weight:400;font-size:.85em}}
th small{{display:block}}
.best{{font-weight:700}}
details{{margin:1em 0}}
summary{{cursor:pointer;color:var(--soft);font-size:.92rem;
  padding:.35em 0}}
summary:hover{{color:var(--ink)}}
.stack{{display:flex;height:22px;border-radius:5px;overflow:hidden;gap:2px;
  margin:.4em 0 .8em}}
.stack i{{background:var(--c);min-width:3px}}
dl{{display:grid;grid-template-columns:minmax(0,1fr);margin:1em 0;gap:0}}
dt{{color:var(--soft);font-size:.85rem;padding-top:.8em}}
dd{{margin:0;min-width:0;overflow-wrap:anywhere}}
@media (min-width:640px){{
  dl{{grid-template-columns:8em minmax(0,1fr);gap:.7em 1.5em}}
  dt{{padding-top:.15em}}}}
dd pre{{background:var(--panel);border:1px solid var(--rule);
  border-radius:6px;padding:.7em .9em}}
@media (max-width:480px){{main{{padding:24px 14px 48px}}
  figure{{padding:10px 10px 10px}}}}
@media print{{main{{max-width:none;padding:0}}figure{{break-inside:avoid}}}}
"""
