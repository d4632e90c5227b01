"""Generates a Python client from docs/openapi.json, counts its files and imports each of them.

usage: generate.py FOLDER
"""

import importlib
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Shared schemas keep a generated client small.
MOST_FILES = 500


def main():
    folder = pathlib.Path(sys.argv[1]).resolve()
    shutil.rmtree(folder, ignore_errors=True)
    package = folder / "switchboard_client"
    generator = [sys.executable, "-m", "openapi_python_client", "generate", "--meta", "none"]
    generator += ["--path", str(ROOT / "docs/openapi.json"), "--output-path", str(package)]
    made = subprocess.run(generator, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
    # The generator tells of an operation or a schema that it cannot read, and leaves it out.
    skipped = [line for line in made.stdout.splitlines() if "WARNING" in line or "ERROR" in line]
    if made.returncode != 0 or skipped:
        raise SystemExit("\n".join([made.stdout, made.stderr]))
    files = [path for path in package.rglob("*") if path.is_file()]
    if len(files) >= MOST_FILES:
        raise SystemExit(f"the client has {len(files)} files")
    sys.path.insert(0, str(folder))
    modules = [path.relative_to(folder).with_suffix("") for path in files if path.suffix == ".py"]
    for module in modules:
        importlib.import_module(".".join(module.parts).removesuffix(".__init__"))
    print(f"a Python client of {len(files)} files, all of which can be imported")


main()
