"""Hold one file against rule packs of a schema: every kind of check by its name, and the one call that runs them."""

from collections.abc import Mapping

from cytolabe.records import Finding
from cytolabe.validate.check_arrays import ARRAY_CHECKS
from cytolabe.validate.check_columns import COLUMN_CHECKS
from cytolabe.validate.check_features import FEATURE_CHECKS
from cytolabe.validate.check_labels import LABEL_CHECKS
from cytolabe.validate.check_meaning import MEANING_CHECKS
from cytolabe.validate.check_terms import TERM_CHECKS
from cytolabe.validate.check_uns import UNS_CHECKS
from cytolabe.validate.delivered import Delivered
from cytolabe.validate.schema import Check, findings_of, load_schema_pack

__all__ = ["CHECKS", "conform"]

CHECKS: Mapping[str, Check] = {
    **COLUMN_CHECKS,
    **TERM_CHECKS,
    **FEATURE_CHECKS,
    **UNS_CHECKS,
    **ARRAY_CHECKS,
    **LABEL_CHECKS,
    **MEANING_CHECKS,
}
"""Kind of check -> its function; an entry of a pack names one."""


def conform(delivered: Delivered, pack: str) -> tuple[Finding, ...]:
    """Return everything in which a file does not conform to a pack, at once.

    Raises
    ------
    UsageError
        If there is no pack of that name.
    """
    return findings_of(delivered, load_schema_pack(pack), checks=CHECKS)
