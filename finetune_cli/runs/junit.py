"""The gates of an evaluation as JUnit XML, the form in which CI systems show tests."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from finetune_cli.errors import ConfigError
from finetune_cli.records.evaluation import EvalReport
from finetune_cli.system.files import replacing


def write_junit(path: Path, report: EvalReport, name: str) -> None:
    """One test case for each gate. name: what was evaluated, as the user gave it. ConfigError without any gate."""
    if not report.gates:
        raise ConfigError("--junit: there is no gate to report. Add one, such as --gate 'f1>=0.88'.")
    failures = sum(not outcome.passed for outcome in report.gates)
    suite = ElementTree.Element(
        "testsuite", name=f"{name} {report.split}", tests=str(len(report.gates)), failures=str(failures)
    )
    for outcome in report.gates:
        case = ElementTree.SubElement(suite, "testcase", classname=f"{name}.{report.split}", name=outcome.gate)
        if not outcome.passed:
            ElementTree.SubElement(case, "failure", message=outcome.finding, type="gate")
    ElementTree.indent(suite)
    with replacing(path) as file:
        file.write(ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n")
