"""The result of `rnnstate.health`: findings, each with a number, a threshold, its source and advice."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from rnnstate.messages import counted

LEVELS = ("warning", "note", "ok")


@dataclass(frozen=True)
class HealthFinding:
    """One number about the state of a model.

    Args:
        name: What was measured, with the layer or leaf where it belongs to one.
        value: The number.
        threshold: The number it is compared with, and how, such as `"below 0"`. It is empty if there is none.
        level: `"ok"`, `"warning"` if the number is beyond the threshold, or `"note"` for a fact.
        advice: What follows from the number.
        source: Where the number and its threshold come from.
        unit: The unit of the number.
    """

    name: str
    value: float
    threshold: str
    level: str
    advice: str
    source: str
    unit: str = ""

    def __str__(self) -> str:
        against = f" (healthy: {self.threshold})" if self.threshold else ""
        return f"{self.level:<8} {self.name}: {self.shown}{against}. {self.advice}".rstrip()

    @property
    def shown(self) -> str:
        """The number with its unit."""
        return f"{self.value:.4g} {self.unit}".rstrip()


@dataclass(frozen=True)
class Health:
    """The findings about a model, in the order in which they were measured.

    Args:
        findings: The findings.
        measured_on: What was run, as a sentence.

    Example:

    >>> finding = HealthFinding("drift of `lstm/c`", 12.0, "below 2", "warning", "Clip gradients.", "")
    >>> print(Health([finding], "2 sequences of 30 steps."))
    Health: 1 warning, 0 numbers within their thresholds, 0 notes. Measured on 2 sequences of 30 steps.
    warning  drift of `lstm/c`: 12 (healthy: below 2). Clip gradients.
    """

    findings: list[HealthFinding]
    measured_on: str

    @property
    def warnings(self) -> list[HealthFinding]:
        """The findings beyond their thresholds."""
        return [finding for finding in self.findings if finding.level == "warning"]

    def __getitem__(self, name: str) -> HealthFinding:
        for finding in self.findings:
            if finding.name == name:
                return finding
        raise KeyError(f"There must be a finding of that name: {[f.name for f in self.findings]}. Received: {name!r}.")

    def __iter__(self) -> Iterator[HealthFinding]:
        return iter(self.findings)

    def __len__(self) -> int:
        return len(self.findings)

    def __str__(self) -> str:
        count = {level: sum(finding.level == level for finding in self.findings) for level in LEVELS}
        head = (
            f"Health: {counted(count['warning'], 'warning')}, {counted(count['ok'], 'number')} within "
            f"{'its threshold' if count['ok'] == 1 else 'their thresholds'}, {counted(count['note'], 'note')}. "
            f"Measured on {self.measured_on}"
        )
        ordered = sorted(self.findings, key=lambda finding: LEVELS.index(finding.level))
        return "\n".join([head, *map(str, ordered)])

    def to_json(self) -> dict[str, Any]:
        """Return the report for JSON."""
        return {"measured_on": self.measured_on, "findings": [asdict(finding) for finding in self.findings]}


def judged(
    name: str, value: float, limit: float, *, above: bool = False, good: str, bad: str, source: str, unit: str = ""
) -> HealthFinding:
    """Return a finding that is `ok` below a limit, or above it, and a warning otherwise. NaN is a warning."""
    fine = value >= limit if above else value <= limit
    threshold = f"{'at least' if above else 'at most'} {limit:g}"
    return HealthFinding(name, value, threshold, "ok" if fine else "warning", good if fine else bad, source, unit)
