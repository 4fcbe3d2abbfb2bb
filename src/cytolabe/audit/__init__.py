"""Test a split for leakage, duplicates, confounding and exposure, and certify what was tested."""

from cytolabe.audit.all_copies import copied_pairs, find_copies
from cytolabe.audit.certificate import Grounds, certify, verify_certificate
from cytolabe.audit.claims import ClaimVerdict, cell_type_claim, donor_claim
from cytolabe.audit.confounding import ConfoundingRow, audit_confounding
from cytolabe.audit.duplicates import DuplicateReport, duplicate_table, find_duplicates, identical_pairs
from cytolabe.audit.exposure import exposure_of, exposure_to_ledger
from cytolabe.audit.fit_scopes import CellSet, check_fit_scopes
from cytolabe.audit.leakage import FoldAudit, allowed_scopes, audit_fold, audit_split
from cytolabe.audit.persons import person_table

__all__ = [
    "CellSet",
    "ClaimVerdict",
    "ConfoundingRow",
    "DuplicateReport",
    "FoldAudit",
    "Grounds",
    "allowed_scopes",
    "audit_confounding",
    "audit_fold",
    "audit_split",
    "cell_type_claim",
    "certify",
    "check_fit_scopes",
    "copied_pairs",
    "donor_claim",
    "duplicate_table",
    "exposure_of",
    "exposure_to_ledger",
    "find_copies",
    "find_duplicates",
    "identical_pairs",
    "person_table",
    "verify_certificate",
]
