"""Completion: the shell script that completes commands, options and names.

    parser of the command line, names -> [ script ] -> eval "$(tombola completion bash)"

The words are part of the script, so pressing tab starts no Python.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

SHELLS = ("bash", "zsh", "fish")

_BASH = """\
_tombola() {{
  local cur="${{COMP_WORDS[COMP_CWORD]}}" prev="${{COMP_WORDS[COMP_CWORD-1]}}" words=""
  case "$prev" in
{options}
  *)
    case "${{COMP_WORDS[1]}} ${{COMP_WORDS[2]}} " in
{commands}
    *) words="{top}" ;;
    esac
    ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
  if [[ "$cur" != -* ]]; then COMPREPLY+=($(compgen -f -- "$cur")); fi
}}
complete -o filenames -F _tombola tombola
"""


def words_of(parser: argparse.ArgumentParser, above: str = "") -> dict[str, list[str]]:
    """Return what can follow each command: its options, its choices and the commands in it; ""
    stands for no command yet.

    >>> top = argparse.ArgumentParser()
    >>> run = top.add_subparsers().add_parser("run")
    >>> _ = run.add_argument("--json", action="store_true")
    >>> words_of(top)
    {'': ['-h', '--help', 'run'], 'run': ['-h', '--help', '--json']}
    """
    words: list[str] = []
    inner: dict[str, list[str]] = {}
    # argparse keeps the only list of a parser's arguments to itself.
    for action in parser._actions:
        words += action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                words.append(name)
                inner |= words_of(command, f"{above} {name}".strip())
        elif action.choices is not None:
            words += map(str, action.choices)
    return {above: words, **inner}


def script(
    shell: str,
    parser: argparse.ArgumentParser,
    values: Mapping[str, Sequence[str]],
    more: Mapping[str, Sequence[str]],
) -> str:
    """Return the script for a shell.

    Args:
        shell: "bash", "zsh" or "fish".
        parser: Of the whole command line.
        values: What each option takes.
        more: What can follow each command besides what the parser knows, such as names of recipes.

    >>> top = argparse.ArgumentParser("tombola")
    >>> print(script("fish", top, {"--data": ["digits"]}, {"run": ["mnist"]}))
    complete -c tombola -n 'test (count (commandline -opc)) -eq 1' -a '-h --help'
    complete -c tombola -n '__fish_seen_subcommand_from run' -a 'mnist'
    complete -c tombola -l data -x -a 'digits'
    <BLANKLINE>
    """
    words = words_of(parser)
    for command, names in more.items():
        words[command] = [*words.get(command, []), *names]
    top = words.pop("")
    if shell == "fish":
        return _fish(top, words, values)
    text = _bash(top, words, values)
    # Zsh runs the completions of bash, once it is told to.
    return f"autoload -U +X bashcompinit && bashcompinit\n{text}" if shell == "zsh" else text


def _bash(
    top: Sequence[str], words: Mapping[str, Sequence[str]], values: Mapping[str, Sequence[str]]
) -> str:
    options, commands = [], []
    for option, known in values.items():
        options.append(f'  {option}) words="{" ".join(known)}" ;;')
    # The longer first, as the first that fits is taken: "ticket info" stands before "ticket".
    for command in sorted(words, key=lambda command: -command.count(" ")):
        commands.append(f'    "{command} "*) words="{" ".join(words[command])}" ;;')
    return _BASH.format(options="\n".join(options), commands="\n".join(commands), top=" ".join(top))


def _fish(
    top: Sequence[str], words: Mapping[str, Sequence[str]], values: Mapping[str, Sequence[str]]
) -> str:
    lines = [f"complete -c tombola -n 'test (count (commandline -opc)) -eq 1' -a '{' '.join(top)}'"]
    for command, known in words.items():
        seen = "; and ".join(f"__fish_seen_subcommand_from {part}" for part in command.split())
        lines.append(f"complete -c tombola -n '{seen}' -a '{' '.join(known)}'")
    for option, known in values.items():
        lines.append(f"complete -c tombola -l {option[2:]} -x -a '{' '.join(known)}'")
    return "\n".join(lines) + "\n"
