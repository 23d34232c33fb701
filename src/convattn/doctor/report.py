"""What doctor and audit return: findings, each with its fix."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass

from convattn.core.checks import check_choice

__all__ = ["Finding", "Report", "grouped"]

SEVERITIES = ("error", "warning", "note")
SHOWN_PATHS = 3


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or worth knowing.

    Attributes:
        code: its kind, such as "batch-leak"; stable, to be tested for.
        severity: "error" (results are wrong, or it does not run), "warning" (it will hurt under
            stated conditions) or "note" (nothing is wrong; good to know).
        path: where in the model, such as "blocks.3.attention"; "" for the whole.
        what: what was observed.
        fix: what to do.
    """

    code: str
    severity: str
    path: str
    what: str
    fix: str

    def __post_init__(self) -> None:
        check_choice("Finding", "severity", self.severity, SEVERITIES)


@dataclass(frozen=True)
class Report:
    """Findings about one model or block.

    Attributes:
        subject: what was examined.
        findings: worst first.
        checked: what was looked for, in words; a check that could not run is not in it.
        operators: what the blocks compute with here, in words.
    """

    subject: str
    findings: tuple[Finding, ...]
    checked: tuple[str, ...]
    operators: str = ""

    @property
    def ok(self) -> bool:
        """No error and no warning; notes are allowed."""
        return all(finding.severity == "note" for finding in self.findings)

    @property
    def codes(self) -> frozenset[str]:
        """Codes of the errors and warnings."""
        return frozenset(f.code for f in self.findings if f.severity != "note")

    def of(self, code: str) -> tuple[Finding, ...]:
        """The findings with this code."""
        return tuple(finding for finding in self.findings if finding.code == code)

    def __str__(self) -> str:
        problems = sum(f.severity != "note" for f in self.findings)
        count = f"{problems} finding{'' if problems == 1 else 's'}" if problems else "nothing found"
        lines = [f"{self.subject}: {count}"]
        for finding in self.findings:
            where = f" at {finding.path}" if finding.path else ""
            lines += ["", f"{finding.severity}: {finding.code}{where}"]
            lines += textwrap.wrap(finding.what, 78, initial_indent="  ", subsequent_indent="  ")
            lines += textwrap.wrap(
                f"Fix: {finding.fix}", 78, initial_indent="  ", subsequent_indent="  "
            )
        lines += ["", *textwrap.wrap(f"checked: {', '.join(self.checked)}", 80)]
        if self.operators:
            lines += ["", *textwrap.wrap(f"operators: {self.operators}", 80)]
        return "\n".join(lines)


def grouped(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Equal findings at several paths as one, worst first."""
    paths: dict[tuple[str, str, str, str], list[str]] = {}
    for f in findings:
        places = paths.setdefault((f.code, f.severity, f.what, f.fix), [])
        if f.path not in places:
            places.append(f.path)
    merged = [
        Finding(code, severity, _joined(places), what, fix)
        for (code, severity, what, fix), places in paths.items()
    ]
    return tuple(sorted(merged, key=lambda f: SEVERITIES.index(f.severity)))


def _joined(paths: list[str]) -> str:
    shown = ", ".join(paths[:SHOWN_PATHS])
    return shown + (f" and {len(paths) - SHOWN_PATHS} more" if len(paths) > SHOWN_PATHS else "")
