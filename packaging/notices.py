"""Writes the licenses of everything that the released program contains.

usage: notices.py TARGET > THIRD-PARTY-NOTICES

TARGET is a triple such as x86_64-unknown-linux-gnu. The crates are those of Cargo.lock that the program links or
is generated with, and their license files come from the sources that cargo has downloaded.
"""

import io
import json
import pathlib
import re
import subprocess
import sys
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
# A file that holds a license or a notice that the license asks for.
LICENSE = re.compile(r"(licen[cs]e|copying|copyright|notice|unlicense)([-._ ].*)?", re.IGNORECASE)
# Files with such a name that hold something else.
OTHER = {".rs", ".py", ".c", ".h", ".js", ".jsx", ".ts", ".tsx", ".yml", ".yaml", ".sh", ".pl", ".cmake", ".json"}
RULE = "=" * 100


def packages(target):
    """What the program links, with all that is generated at build time, but without what only tests need."""
    told = subprocess.run(
        ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )
    told = json.loads(told.stdout)
    by_id = {package["id"]: package for package in told["packages"]}
    needs = {
        node["id"]: [
            need["pkg"] for need in node["deps"] if any(kind["kind"] != "dev" for kind in need["dep_kinds"])
        ]
        for node in told["resolve"]["nodes"]
    }
    root = told["resolve"]["root"]
    found, left = set(), [root]
    while left:
        one = left.pop()
        if one not in found:
            found.add(one)
            left.extend(needs[one])
    found.remove(root)
    return sorted((by_id[one] for one in found), key=lambda package: (package["name"], package["version"]))


def is_license(name):
    """Whether a file of this name holds a license."""
    return LICENSE.fullmatch(name) is not None and pathlib.PurePath(name).suffix.lower() not in OTHER


def texts(folder):
    """The license files of a crate, those of C sources and of archives in it included."""
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        place = path.relative_to(folder)
        if is_license(path.name):
            yield str(place), path.read_text(errors="replace")
        elif path.suffix == ".zip":
            with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
                for name in sorted(archive.namelist()):
                    if is_license(pathlib.PurePosixPath(name).name):
                        yield f"{place}/{name}", archive.read(name).decode(errors="replace")


def main():
    target = sys.argv[1]
    # Each text once, with all that carry it: most crates have the same two.
    carriers, missing, licenses = {}, [], []
    for package in packages(target):
        name = f"{package['name']} {package['version']}"
        licenses.append(f"  {name}: {package['license']}")
        found = list(texts(pathlib.Path(package["manifest_path"]).parent))
        for place, text in found:
            carriers.setdefault(text.replace("\r\n", "\n").strip(), []).append(f"{name} ({place})")
        if not found:
            missing.append(name)
    print("Switchboard contains, or is generated with, the following software.\n")
    print("\n".join(licenses))
    print("  SQLite, in libsqlite3-sys: public domain")
    print("  The Rust standard library: MIT OR Apache-2.0")
    if missing:
        print("\nThese carry no license file of their own; the texts of the licenses named above are below:\n")
        print("\n".join(f"  {name}" for name in missing))
    for text, names in sorted(carriers.items(), key=lambda item: item[1][0]):
        print(f"\n{RULE}\n" + "\n".join(names) + f"\n{RULE}\n\n{text}")


main()
