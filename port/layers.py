#!/usr/bin/env python3
"""Checks the #include lines of port/src against layers.txt; prints one line for each that breaks a rule."""

import pathlib
import re
import sys

PORT = pathlib.Path(__file__).resolve().parent
SRC = PORT / "src"
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def read_rules(text):
    """Returns ({part: set of what it may include}, {library header: the parts that own it})."""
    allowed, owners = {}, {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.split("#")[0].strip()
        if not line:
            continue
        left, colon, right = line.partition(":")
        if not colon:
            sys.exit(f"layers.txt:{number}: no colon in this line")
        left = left.strip()
        if left.startswith("<"):
            owners[left.strip("<>")] = right.split()
        else:
            allowed[left] = set(right.split())
    return allowed, owners


def part_of(path):
    """The part that a path relative to src belongs to."""
    first = path.parts[0]
    return first if len(path.parts) > 1 else first.split(".")[0]


def owner_of(header, owners):
    for name, parts in owners.items():
        if header == name or (name.endswith("/") and header.startswith(name)):
            return parts
    return None


def resolve(name, file):
    """The file that a quoted include means, relative to src: beside the includer, or below src."""
    for base in (file.parent, SRC):
        found = (base / name).resolve()
        if found.is_file() and SRC in found.parents:
            return found.relative_to(SRC)
    return None


def complaint(kind, name, file, allowed, owners):
    """What is wrong with one include, or None."""
    part = part_of(file.relative_to(SRC))
    if part not in allowed:
        return f"{part} is not in layers.txt"
    if kind == "<":
        parts = owner_of(name, owners)
        return None if parts is None or part in parts else f"<{name}> belongs to {' and '.join(parts)}, not to {part}"
    found = resolve(name, file)
    if found is None:
        return f'"{name}" is not below port/src'
    target = part_of(found)
    may = allowed[part]
    if target == part or "*" in may or target in may or found.as_posix() in may:
        return None
    return f"{part} may not include {found.as_posix()}"


def main():
    allowed, owners = read_rules((PORT / "layers.txt").read_text())
    wrong = 0
    for file in sorted(p for p in SRC.rglob("*") if p.suffix in (".c", ".h", ".def")):
        for number, line in enumerate(file.read_text().splitlines(), 1):
            match = INCLUDE.match(line)
            why = match and complaint(match[1], match[2], file, allowed, owners)
            if why:
                print(f"port/src/{file.relative_to(SRC)}:{number}: {why}")
                wrong += 1
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
