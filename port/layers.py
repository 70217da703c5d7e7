#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks port/src against layers.txt; prints one line for each of these faults:

* an #include that breaks a rule, or a permission that no file uses;
* a circle of calls between the files of a folder (if they are compiled: it reads the symbols of the objects);
* a row of the table in README.md that differs from layers.txt. With --write the row is corrected.
"""

import collections
import pathlib
import re
import subprocess
import sys

PORT = pathlib.Path(__file__).resolve().parent
SRC = PORT / "src"
BUILT = PORT / "_build" / "release" / "src"
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def sources(*endings):
    return sorted(p for p in SRC.rglob("*") if p.suffix in (endings or (".c", ".h", ".def")))


def read_rules(text):
    """Returns ({part: set of what it may include}, {library header: the parts that own it}, [circles that are natural])."""
    allowed, owners, natural = {}, {}, []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.split("#")[0].strip()
        if not line:
            continue
        left, colon, right = line.partition(":")
        if not colon:
            sys.exit(f"layers.txt:{number}: no colon in this line")
        left = left.strip()
        if left.startswith("circle "):
            natural.append(sorted(left.split()[1:]))
        elif left.startswith("<"):
            owners[left.strip("<>")] = right.split()
        else:
            allowed[left] = set(right.split())
    return allowed, owners, natural


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
    """The file that a quoted include names, relative to src: next to the includer, or below src."""
    for base in (file.parent, SRC):
        found = (base / name).resolve()
        if found.is_file() and SRC in found.parents:
            return found.relative_to(SRC)
    return None


def complaint(kind, name, file, allowed, owners):
    """The fault of one include, or None."""
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


def unused(allowed):
    """Permissions that no file of a part needs."""
    used = collections.defaultdict(set)
    for file in sources():
        for line in file.read_text().splitlines():
            match = INCLUDE.match(line)
            found = match and match[1] == '"' and resolve(match[2], file)
            if found:
                used[part_of(file.relative_to(SRC))] |= {part_of(found), found.as_posix()}
    return [(part, name) for part, names in allowed.items() for name in sorted(names) if name != "*" and name not in used[part]]


def calls():
    """{file: files whose functions or tables it uses}, by the names of sources without their endings."""
    owner, wants = {}, collections.defaultdict(set)
    for file in sources(".c"):
        name = file.relative_to(SRC).with_suffix("").as_posix()
        compiled = BUILT / f"{name}.o"
        if not compiled.exists():
            continue
        for line in subprocess.run(["nm", "-P", compiled], capture_output=True, text=True, check=True).stdout.splitlines():
            symbol, kind = line.split()[:2]
            if kind in "TDBRC":
                owner[symbol] = name
            elif kind == "U":
                wants[name].add(symbol)
    return {name: {owner[symbol] for symbol in symbols if symbol in owner} - {name} for name, symbols in wants.items()}


def circles(graph):
    """Sets of files that need each other (Tarjan)."""
    index, low, stack, found = {}, {}, [], []

    def visit(name):
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in graph.get(name, ()):
            if other not in index:
                visit(other)
            if other in stack:
                low[name] = min(low[name], low[other])
        if low[name] == index[name]:
            at = stack.index(name)
            if len(stack) - at > 1:
                found.append(sorted(stack[at:]))
            del stack[at:]

    for name in graph:
        if name not in index:
            visit(name)
    return found


def table(text, allowed):
    """The text of README.md with the rules of layers.txt in the last column of its table."""

    def row(match):
        names = [name.strip() for name in allowed[match[2]] if name]
        order = [name for name in allowed if name in names] + sorted(name for name in names if "/" in name)
        return f"{match[1]}| {', '.join(order) or 'libc'} |"

    return re.sub(r"^(\| `src/(\w+)` \| .* )\| [^|]* \|$", row, text, flags=re.M)


def main():
    allowed, owners, natural = read_rules((PORT / "layers.txt").read_text())
    wrong = [f"{part}: nobody uses the permission {name} (layers.txt)" for part, name in unused(allowed)]
    for file in sources():
        for number, line in enumerate(file.read_text().splitlines(), 1):
            match = INCLUDE.match(line)
            why = match and complaint(match[1], match[2], file, allowed, owners)
            if why:
                wrong.append(f"port/src/{file.relative_to(SRC)}:{number}: {why}")
    wrong += [f"these call each other in a circle: {', '.join(names)}" for names in circles(calls()) if names not in natural]
    readme = PORT / "README.md"
    text = readme.read_text()
    new = table(text, allowed)
    if new != text and "--write" in sys.argv[1:]:
        readme.write_text(new)
    elif new != text:
        wrong.append("port/README.md: its table is not that of layers.txt (port/layers.py --write)")
    print("\n".join(wrong), end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
