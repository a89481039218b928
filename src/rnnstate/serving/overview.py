"""The page at `/`: sessions with their rates, the throughput, and a heat map of the state of one session.

The server renders it whole. A few lines of script fetch it again every two seconds and replace its content.
"""

from html import escape
from typing import Any
from urllib.parse import quote

from rnnstate.messages import counted
from rnnstate.serving.activity import Activity, Trail, rate
from rnnstate.serving.described import Served
from rnnstate.serving.heatmap import heat_map
from rnnstate.serving.tokens import Tenant

_SHOWN = 50  # the sessions of the table
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; connect-src 'self'"
_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; font: 16px/1.5 system-ui, sans-serif }
body { margin: 0 auto; padding: 1rem; max-width: 70rem }
h1 { font-size: 1.25rem; margin: 0 } h2 { font-size: 1rem; margin: 1.5rem 0 .25rem; overflow-wrap: anywhere }
p { margin: .25rem 0; opacity: .8 }
.numbers { display: grid; grid-template-columns: repeat(auto-fit, minmax(6.5rem, 1fr)); gap: .5rem; margin: 1rem 0 }
.numbers div { background: var(--soft); border-radius: .5rem; padding: .5rem .75rem }
.numbers b { display: block; font-size: 1.25rem; font-variant-numeric: tabular-nums }
table { border-collapse: collapse; width: 100%; table-layout: fixed }
th, td { text-align: right; padding: .4rem .25rem; border-bottom: 1px solid var(--line); font-variant-numeric: tabular-nums }
th:first-child, td:first-child { text-align: left; width: 50%; overflow-wrap: anywhere }
th { font-size: .875rem }
a { color: LinkText; display: block } tr[aria-current] { background: var(--soft) }
figure { margin: .75rem 0 } figcaption { font-size: .875rem; opacity: .8; overflow-wrap: anywhere }
.map { position: relative; border: 1px solid var(--line); border-radius: .25rem; overflow: hidden }
.map img { display: block; width: 100%; height: 10rem; image-rendering: pixelated }
.map i { position: absolute; top: 0; bottom: 0; border-left: 2px dashed; padding-left: 2px; font: 11px/1.2 system-ui }
"""
_SCRIPT = """
setInterval(async () => {
  try {
    const answer = await fetch(location.href);
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    document.querySelector("main").replaceWith(page.querySelector("main"));
  } catch { /* the server is away; the next try may reach it */ }
}, 2000);
"""


def overview(served: Served, activity: Activity, tenant: Tenant, records: int, chosen: tuple[str, Trail] | None) -> str:
    """Return the page.

    Args:
        served: The model.
        activity: What happened lately.
        tenant: Who asks. The page shows the sessions of this tenant alone.
        records: How many sessions the tenant has.
        chosen: The key and the trail of the session whose state is shown, or `None`.
    """
    title = f"rnnstate: {escape(served.name)}"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{_STYLE}</style></head><body>'
        f"<h1>{title}</h1><p>on {escape(served.platform)}</p>"
        f"<main>{_numbers(activity, tenant, records)}{_state(*chosen) if chosen else ''}"
        f"{_table(activity, tenant, chosen[0] if chosen else None)}</main><script>{_SCRIPT}</script></body></html>"
    )


def _numbers(activity: Activity, tenant: Tenant, records: int) -> str:
    trails = [trail for _, trail in activity.latest(tenant.prefix, 1000)]
    total = activity.total if not tenant.prefix else None
    speed = rate(total) if total else sum(map(rate, trails))
    pushes = total.pushes if total else sum(trail.pushes for trail in trails)
    numbers = {
        "sessions": f"{records:,}",
        "pushes per second": f"{speed:,.1f}",
        "pushes since the start": f"{pushes:,}",
    }
    cells = "".join(f"<div><b>{value}</b>{name}</div>" for name, value in numbers.items())
    return f'<div class="numbers">{cells}</div>'


def _table(activity: Activity, tenant: Tenant, chosen: str | None) -> str:
    rows = []
    for text, trail in activity.latest(tenant.prefix, _SHOWN):
        key = text[len(tenant.prefix) :]
        current = ' aria-current="true"' if key == chosen else ""
        link = f'<a href="/?session={quote(key, safe="")}">{escape(key)}</a>'
        rows.append(f"<tr{current}><td>{link}</td><td>{rate(trail):,.1f}</td><td>{trail.pushes:,}</td></tr>")
    if not rows:
        return "<h2>Sessions</h2><p>No session was used since the server started.</p>"
    head = "<thead><tr><th>session</th><th>pushes/s</th><th>pushes</th></tr></thead>"
    return f"<h2>Sessions that were used last</h2><table>{head}<tbody>{''.join(rows)}</tbody></table>"


def _state(key: str, trail: Trail) -> str:
    states = list(trail.states)
    if not states:
        return f"<h2>{escape(key)}</h2><p>There is no such session.</p>"
    marks = "".join(
        f'<i style="left:{100 * at / len(states):.2f}%">{escape(mark)}</i>'
        for at, (mark, _) in enumerate(states)
        if mark
    )
    figures = "".join(_figure(name, [leaves[name] for _, leaves in states], marks) for name in states[-1][1])
    about = f"The last {counted(len(states), 'state')}, the latest on the right."
    return f"<h2>State of {escape(key)}</h2><p>{about}</p>{figures}"


def _figure(name: str, leaves: list[Any], marks: str) -> str:
    address, largest, rows = heat_map(leaves)
    size = int(leaves[-1].size)
    caption = f"{escape(name)}: {rows} of {counted(size, 'value')}, orange to {largest:.3g}, blue to {-largest:.3g}"
    image = f'<div class="map"><img src="{address}" alt="{caption}">{marks}</div>'
    return f"<figure><figcaption>{caption}</figcaption>{image}</figure>"
