"""`handrail keys`: make this host's keys, and say which hosts it lets in."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from handrail.errors import ConfigError
from handrail.keys import files

EPILOG = """\
Two hosts, once:
  learner$ handrail keys new               robot$ handrail keys new
  learner$ handrail keys allow robot KEY   robot$ handrail keys allow learner KEY
with the KEY that the other host's `handrail keys new` printed. What changes here acts within a
second on processes that run. See docs/security.md."""


def main(argv: list[str] | None = None) -> int:
    """Carry out one of the actions; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="handrail keys",
        description="Make this host's keys and say which hosts it lets in.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--keys", type=Path, help="folder (default: ~/.config/handrail/keys)")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    def action(name: str, summary: str) -> argparse.ArgumentParser:
        return actions.add_parser(name, help=summary, description=summary, parents=[shared])

    action("new", "make this host's key pair")
    show = action("show", "print this host's public key and the hosts that it lets in")
    show.add_argument("--json", action="store_true", help="print one JSON object")
    allow = action("allow", "let a host in; a name may have two keys while one takes over")
    allow.add_argument("name", help="what this host calls the other")
    allow.add_argument("key", help="its public key, 64 hex digits")
    revoke = action("revoke", "let a host in no longer, and cut its open connections")
    revoke.add_argument("who", help="its name, for all its keys, or one public key")
    rotate = action("rotate", "prepare a new key pair, and take it into use with --finish")
    how = rotate.add_mutually_exclusive_group()
    how.add_argument("--finish", action="store_true", help="use the prepared pair from now on")
    how.add_argument("--now", action="store_true", help="both at once, for a key that leaked")
    options = parser.parse_args(argv)
    folder = options.keys or files.default_folder()
    if options.action == "show":
        return _show(folder, options.json)
    with files.lock_folder(folder):
        if options.action == "new":
            return _new(folder)
        if options.action == "allow":
            return _allow(folder, options.name, options.key)
        if options.action == "revoke":
            return _revoke(folder, options.who)
        return _rotate(folder, options.finish, options.now)


def _new(folder: Path) -> int:
    if (folder / files.HOST).exists():
        raise ConfigError(f"this host has a key in {folder}; change it by: handrail keys rotate")
    pair = files.new_pair()
    files.write_pair(folder, files.HOST, pair)
    _say(f"made {folder / files.HOST}")
    _say("let this host in, on the other one:")
    _say(f"  handrail keys allow NAME {pair.public}")
    return 0


def _show(folder: Path, as_json: bool) -> int:
    public = files.read_pair(folder).public
    prepared = ""
    if (folder / files.NEXT).exists():
        prepared = files.read_pair(folder, files.NEXT).public
    names = files.read_allowed(folder)
    if as_json:
        allowed = [{"name": name, "key": key} for key, name in names.items()]
        report = {"folder": str(folder), "key": public, "next": prepared, "allowed": allowed}
        _say(json.dumps(report))
        return 0
    _say(f"folder    {folder}")
    _say(f"this host {public}")
    if prepared:
        _say(f"next key  {prepared}   (in use after: handrail keys rotate --finish)")
    for key, name in sorted(names.items(), key=lambda item: item[1]):
        _say(f"lets in   {key}   {name}")
    if not names:
        _say("lets in   nobody; run: handrail keys allow NAME KEY")
    return 0


def _allow(folder: Path, name: str, key: str) -> int:
    name, key = files.check_name(name), files.check_key(key)
    names = files.read_allowed(folder)
    if names.get(key, name) != name:
        raise ConfigError(f"key {key} is {names[key]!r} already; revoke that first")
    files.write_allowed(folder, {**names, key: name})
    _say(f"{name} is let in" if key not in names else f"{name} is let in with that key already")
    return 0


def _revoke(folder: Path, who: str) -> int:
    names = files.read_allowed(folder)
    gone = {key for key, name in names.items() if who == name or who.lower() == key}
    if not gone:
        known = ", ".join(sorted(set(names.values()))) or "nobody"
        raise ConfigError(f"{who!r} is not on the list in {folder}; on it: {known}")
    files.write_allowed(folder, {key: name for key, name in names.items() if key not in gone})
    for key in sorted(gone):
        _say(f"{names[key]} is let in no longer with key {key}")
    return 0


def _rotate(folder: Path, finish: bool, now: bool) -> int:
    old = files.read_pair(folder).public
    prepared = folder / files.NEXT
    if now:
        prepared.unlink(missing_ok=True)
    if not finish:
        if prepared.exists():
            raise ConfigError(
                f"{prepared} is prepared already: let it in on the other hosts, then run "
                "handrail keys rotate --finish; or remove the file"
            )
        files.write_pair(folder, files.NEXT, files.new_pair())
    elif not prepared.exists():
        raise ConfigError("no new key is prepared; run: handrail keys rotate")
    public = files.read_pair(folder, files.NEXT).public
    if finish or now:
        files.activate_next_key(folder)
        _say(f"in use: {public}")
        _say("on the other hosts:")
        if now:
            _say(f"  handrail keys allow NAME {public}")
        _say(f"  handrail keys revoke {old}")
        return 0
    _say(f"prepared {prepared}; on every other host:")
    _say(f"  handrail keys allow NAME {public}")
    _say("with the same NAME as before; then here: handrail keys rotate --finish")
    return 0


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
