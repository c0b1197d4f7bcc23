"""Reproduce: how a run is made again: its setting, command, recipe and environment."""

from collections.abc import Mapping, Sequence

from tombola.reports.section import OneRun, Section


class Reproduce(Section[OneRun]):
    """What was run, with what, and how to run it again."""

    def applies(self, evidence: OneRun) -> bool:
        return bool(evidence.making or evidence.facts)

    def fact(self, evidence: OneRun) -> Mapping[str, str]:
        return evidence.facts

    def sentence(self, evidence: OneRun) -> Sequence[str]:
        lines = []
        for environment in evidence.making.environments if evidence.making else ():
            lines.append(_in_words(environment))
        return lines

    def code(self, evidence: OneRun) -> Mapping[str, str]:
        if evidence.making is None:
            return {}
        return {
            "Command": evidence.making.command,
            "Recipe with every default": evidence.making.recipe,
        }


def _in_words(environment: Mapping[str, object]) -> str:
    """Say what a machine had."""
    packages = environment.get("packages")
    known = packages.items() if isinstance(packages, Mapping) else ()
    parts = [
        f"Python {environment.get('python', '?')}",
        str(environment.get("platform", "")),
        ", ".join(f"{name} {version}" for name, version in known),
        f"data {str(environment.get('data_fingerprint', ''))[:12]}",
    ]
    return "; ".join(part for part in parts if part)
