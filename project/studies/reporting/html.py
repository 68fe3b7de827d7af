"""A report as one HTML page."""

import html
from collections.abc import Mapping

from project.studies.reporting.formats import format_setting
from project.studies.reporting.report import Report
from project.studies.reporting.wording import MARKS, headline, method, provenance_rows, table_rows

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1b1f24; margin: 2rem auto; max-width: 78rem; padding: 0 1rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .3rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
.headline { font-size: 1.1rem; font-weight: 600; margin: .4rem 0 1rem; } .muted { color: #59636e; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .5rem; border-bottom: 1px solid #d8dee4; text-align: right; white-space: nowrap; }
th { font-weight: 600; border-bottom: 2px solid #8c959f; vertical-align: bottom; white-space: normal; }
th:first-child, td:first-child, .claims td, .plain td { text-align: left; }
.claims td, .plain td { white-space: normal; vertical-align: top; } .claims td:first-child { white-space: nowrap; }
.badge { border-radius: 1rem; color: #fff; font-size: .85rem; font-weight: 600; padding: .1rem .7rem; }
.supported { background: #1a7f37; } .contradicted { background: #b3261e; } .undecided { background: #7a6300; }
.warning { background: #fff3d6; border-left: .4rem solid #d4a72c; margin: .5rem 0; padding: .5rem .9rem; }
code { background: #f1f3f5; border-radius: .25rem; padding: .05rem .3rem; } tr.reference td { background: #f6f8fa; }
figure { margin: 1rem 0; } figure svg { height: auto; max-width: 100%; }
figcaption { color: #59636e; font-size: .9rem; }
"""
CAPTIONS = {
    "results": "Every dot is one seed; the tick is the mean, the bar its 95 % interval.",
    "heat_map": "Means over seeds for each combination.",
    "curves": "Mean over seeds after each epoch; the band reaches from the worst to the best seed.",
    "layers": "Mean over seeds by layer, on a fixed batch. Gradient norms are of one example's loss with respect to "
    "the pre-activations.",
}


def to_html(report: Report, drawings: Mapping[str, str]) -> str:
    """The report as one page with its figures inside.

    Args:
        report: The report.
        drawings: Figures as SVG by their name.
    """
    study, escape = report.study, html.escape
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(study.question)}</title>\n<style>{STYLE}</style>\n</head>\n<body>",
        f"<h1>{escape(study.question)}</h1>",
        f'<p class="headline">{escape(headline(report))}</p>',
    ]
    about = [f"study {study.name}"] + ([f"notes {', '.join(study.notes)}"] if study.notes else [])
    parts.append(f'<p class="muted">{escape(" · ".join(about))}</p>')
    if study.lesson:
        parts.append(f"<p>The notes say: {escape(study.lesson)}</p>")
    parts += [f'<p class="warning" role="alert"><b>Warning.</b> {escape(text)}</p>' for text in report.warnings]
    if report.judgements:
        parts.append('<h2>Claims</h2>\n<div class="wide"><table class="claims">')
        for judgement in report.judgements:
            badge = f'<span class="badge {judgement.name}">{MARKS[judgement.name]} {judgement.name}</span>'
            sentence = judgement.sentence.split(". ", 1)[-1]  # the badge has said the rest
            parts.append(
                f"<tr><td>{badge}</td><td><code>{escape(judgement.claim.text)}</code></td><td>{escape(sentence)}</td></tr>"
            )
        parts.append("</table></div>")
    header, rows = table_rows(report)
    parts.append(f'<h2>{escape(study.metric)} by arm</h2>\n<div class="wide"><table><thead><tr>')
    parts += [f"<th>{escape(name)}</th>" for name in header]
    parts.append("</tr></thead><tbody>")
    for row in rows:
        kind = ' class="reference"' if row[0] == study.reference else ""
        parts.append(f"<tr{kind}>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>")
    parts.append("</tbody></table></div>")
    for name, drawing in drawings.items():
        svg = drawing[drawing.index("<svg") :]
        # ids are unique within a file, but the page holds several
        svg = (
            svg.replace('id="', f'id="{name}-').replace("url(#", f"url(#{name}-").replace('href="#', f'href="#{name}-')
        )
        title = name.replace("_", " ").capitalize()
        parts.append(f'<h2>{title}</h2>\n<figure role="img" aria-label="{title}">{svg}')
        parts.append(f"<figcaption>{escape(CAPTIONS[name])}</figcaption></figure>")
    parts.append(f"<h2>How</h2>\n<p>{escape(method(report))}</p>")
    parts.append('<div class="wide"><table class="plain">')
    facts = [*provenance_rows(report), *((f"base: {key}", format_setting(value)) for key, value in study.base.items())]
    facts += [
        (f"arm {arm}", ", ".join(f"{key} {format_setting(value)}" for key, value in settings.items()) or "as base")
        for arm, settings in study.arms.items()
    ]
    parts += [f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in facts]
    parts.append("</table></div>\n</body>\n</html>\n")
    return "\n".join(parts)
