"""What `finetune doctor` prints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from finetune_cli.display.terminal import Output
from finetune_cli.records.doctor import Device, DoctorReport, Place

GB = 1e9


def doctor_result(out: Output, report: DoctorReport, needed_for: Mapping[str, str]) -> None:
    """Versions, devices, machine, places and the Hub; a block for a bug report; the verdict as the last line.

    needed_for: optional package -> the setting that needs it, and what to type.
    """
    if out.as_json:
        out.json(report.to_json())
        return
    sections = {
        "Versions": _versions(report, needed_for),
        "Devices": _devices(report),
        "Machine": _machine(report),
        "Disk and network": _places(report),
    }
    for title, lines in sections.items():
        out.heading(title)
        width = max(len(name) for name, _ in lines)
        for name, text in lines:
            out.line(f"  {name:<{width}}  {text}".rstrip())
        out.line()
    out.heading("For a bug report")
    out.line("```")
    for line in _summary(report):
        out.line(line)
    out.line("```")
    out.line()
    for hint in report.hints:
        out.line(f"Hint: {hint}")
    for fault in report.faults:
        out.line(f"Wrong: {fault}")
    out.line(report.verdict)


def _versions(report: DoctorReport, needed_for: Mapping[str, str]) -> list[tuple[str, str]]:
    lines = [(name, version or "not installed") for name, version in report.versions.items()]
    lines += [(name, version or f"not installed; for {needed_for[name]}") for name, version in report.optional.items()]
    return [*lines, ("imports", report.imports)]


def _devices(report: DoctorReport) -> list[tuple[str, str]]:
    torch = report.torch
    if torch.error is not None:
        return [("torch", f"cannot be used: {torch.error}")]
    lines = [("torch's build", torch.build), ("NVIDIA driver", report.driver or "none")]
    for device in torch.devices:
        lines += _device(device)
    lines.append(("one process takes", torch.chosen))
    if report.trial is not None:
        lines.append((f"{report.trial.processes} processes", _trial(report)))
    return lines


def _device(device: Device) -> list[tuple[str, str]]:
    memory = ""
    if device.memory_bytes is not None and device.free_bytes is not None:
        memory = f"{device.free_bytes / GB:.1f} of {device.memory_bytes / GB:.1f} GB free"
    return [
        (device.name, memory),
        ("  precision: auto", f"{device.precision} ({device.reason})"),
        ("  attention", _attention(device)),
        ("  compile", device.compile),
    ]


def _attention(device: Device) -> str:
    return ", ".join(f"{kernel} in {use}" for use, kernel in device.attention.items())


def _trial(report: DoctorReport) -> str:
    trial = report.trial
    assert trial is not None
    if trial.error is not None:
        return trial.error
    return f"the same two updates as one process (relative difference {trial.difference:.0e}), {trial.seconds:.0f} s"


def _machine(report: DoctorReport) -> list[tuple[str, str]]:
    cpu = report.cpu
    limit = "" if cpu.limit is None else f", {cpu.limit:g} by the container's limit"
    threads = "" if report.torch.error else f"; torch uses {report.torch.threads} threads"
    memory = "not known" if cpu.memory_bytes is None else f"{cpu.memory_bytes / GB:.1f} GB"
    memory += (
        "" if cpu.memory_limit_bytes is None else f", {cpu.memory_limit_bytes / GB:.1f} GB by the container's limit"
    )
    return [
        ("system", report.platform),
        ("CPUs", f"{cpu.count}, usable {cpu.usable}{limit}{threads}"),
        ("memory", memory),
    ]


def _places(report: DoctorReport) -> list[tuple[str, str]]:
    login = f", {report.hub.login}" if report.hub.login else ""
    reason = f" ({report.hub.reason})" if report.hub.reason else ""
    return [
        *((place.name, f"{_short(place.path)}  {_room(place)}") for place in report.places),
        ("the Hub", f"{report.hub.endpoint}  {report.hub.state}{reason}{login}"),
    ]


def _room(place: Place) -> str:
    if place.problem or place.free_bytes is None:
        return f"cannot be written: {place.problem}"
    return f"{place.free_bytes / GB:.1f} GB free"


def _short(path: str) -> str:
    """Without the name of the user, when it is in the home directory."""
    try:
        return str("~" / Path(path).relative_to(Path.home()))
    except (ValueError, RuntimeError):
        return path


def _summary(report: DoctorReport) -> list[str]:
    """What to paste: no path, no name, no token."""
    versions = ", ".join(f"{name} {version or 'missing'}" for name, version in report.versions.items())
    optional = ", ".join(f"{name} {version}" for name, version in report.optional.items() if version) or "none"
    cpu = report.cpu
    torch = "no torch that works" if report.torch.error else f"torch {report.torch.version} for {report.torch.build}"
    return [
        versions,
        f"optional: {optional}; imports {report.imports}",
        f"{report.platform}; {cpu.usable} of {cpu.count} CPUs, limit {cpu.limit or 'none'}",
        f"{torch}, driver {report.driver or 'none'}",
        *(f"{device.name}: {device.precision}, attention {_attention(device)}" for device in report.torch.devices),
        *([f"{report.trial.processes} processes: {_trial(report)}"] if report.trial else []),
        f"fit: {'yes' if report.fit else 'no'}; faults: {len(report.faults)}; hints: {len(report.hints)}",
    ]
