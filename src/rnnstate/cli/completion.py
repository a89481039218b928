"""`rnnstate completion`: a script that lets a shell complete commands and options. It is made from the parser."""

import argparse
from collections.abc import Iterator
from typing import Any

SHELLS = ("bash", "zsh", "fish")

_BASH = """\
# Completion of rnnstate for bash. Load it with: eval "$(rnnstate completion bash)"
_rnnstate() {{
    local current="${{COMP_WORDS[COMP_CWORD]}}" previous="${{COMP_WORDS[COMP_CWORD-1]}}" command="" word
    for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        case "$word" in {commands}) command="$word"; break ;; esac
    done
    case "$command $previous" in
{choices}
    esac
    local words=""
    case "$command" in
{options}
    esac
    if [[ "$current" == -* || -z "$command" ]]; then
        COMPREPLY=($(compgen -W "$words" -- "$current"))
    fi
}}
complete -o default -F _rnnstate rnnstate
"""
_ZSH = '# Completion of rnnstate for zsh. Load it with: eval "$(rnnstate completion zsh)"\n'
_ZSH += "autoload -Uz compinit bashcompinit && compinit && bashcompinit\n"
_FISH = "# Completion of rnnstate for fish. Load it with: rnnstate completion fish | source\n"


def script(shell: str, parser: argparse.ArgumentParser) -> str:
    """Return the completion script of a shell for the commands of a parser."""
    commands = commands_of(parser)
    if shell == "fish":
        return _FISH + "\n".join(_fish_lines(commands)) + "\n"
    return (_ZSH if shell == "zsh" else "") + _bash(parser, commands)


def commands_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the parser of each command."""
    return next(dict(action.choices) for action in _actions(parser) if isinstance(action.choices, dict))


def _bash(parser: argparse.ArgumentParser, commands: dict[str, argparse.ArgumentParser]) -> str:
    words = {name: _flags(one) + _positional_choices(one) for name, one in commands.items()}
    words[""] = [*commands, *_flags(parser)]
    options = [f'        {_pattern(name)}) words="{" ".join(given)}" ;;' for name, given in words.items()]
    choices = [
        f'        "{name} {flag}") COMPREPLY=($(compgen -W "{" ".join(map(str, action.choices))}" -- "$current")); return ;;'
        for name, one in commands.items()
        for action in _actions(one)
        if action.choices
        for flag in action.option_strings
    ]
    return _BASH.format(commands="|".join(commands), choices="\n".join(choices), options="\n".join(options))


def _pattern(name: str) -> str:
    return name or '""'


def _fish_lines(commands: dict[str, argparse.ArgumentParser]) -> Iterator[str]:
    for name in commands:
        yield f"complete -c rnnstate -n __fish_use_subcommand -f -a {name}"
    for name, one in commands.items():
        where = f"complete -c rnnstate -n '__fish_seen_subcommand_from {name}'"
        for action in _actions(one):
            flags = "".join(
                f" -l {flag[2:]}" if flag.startswith("--") else f" -s {flag[1:]}" for flag in action.option_strings
            )
            among = f" -x -a '{' '.join(map(str, action.choices))}'" if action.choices else ""
            takes = " -r" if action.nargs != 0 and not among and flags else ""
            if flags or among:
                yield f"{where}{flags}{among}{takes}"


def _flags(parser: argparse.ArgumentParser) -> list[str]:
    return [flag for action in _actions(parser) for flag in action.option_strings if flag.startswith("--")]


def _positional_choices(parser: argparse.ArgumentParser) -> list[str]:
    return [str(word) for action in _actions(parser) if not action.option_strings for word in action.choices or ()]


def _actions(parser: argparse.ArgumentParser) -> list[Any]:
    return list(parser._actions)  # argparse has no public way to list them
