"""How templates become pages: escaping is on, and every string that reaches a page is inert."""

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cytolabe.report import figures
from cytolabe.report.leaderboard import fold_name
from cytolabe.report.tables import row_groups
from cytolabe.report.text import count, counted, fraction, inert, number, score_value, short_digest, spread

__all__ = ["page_environment"]


def page_environment() -> Environment:
    """Return the environment of every page: escaping on, missing names an error, the filters of the macros."""
    environment = Environment(
        loader=PackageLoader("cytolabe.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_finalized,
    )
    environment.filters |= {
        "count": count,
        "counted": counted,
        "fraction": fraction,
        "number": number,
        "inert": inert,
        "short": short_digest,
        "held_out": fold_name,
        "anchor": _anchor,
    }
    environment.globals |= {
        "range_figure": figures.range_figure,
        "spread": spread,
        "score_value": score_value,
        "row_groups": row_groups,
    }
    return environment


def _finalized(value: object) -> object:
    """Make every string inert that reaches the page, whatever a template forgot."""
    return value if isinstance(value, Markup) or not isinstance(value, str) else inert(value, 2000)


def _anchor(name: str) -> str:
    """Return the id of a paragraph of the guide; its names are ours."""
    return "read-" + "".join(character if character.isalnum() else "-" for character in name.lower())
