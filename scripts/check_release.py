"""Check what would be published: scripts/check_release.py [--python python3.11 ... --wheels FOLDER] [--release].

It builds the sdist, and the wheel from it, in a folder that is deleted afterwards (`--out` keeps them), and checks that
they describe themselves, that nothing is missing, and that every place names the same version. For each `--python` it
downloads the dependencies into `--wheels` unless they are there, installs the wheel from that folder alone into an
empty environment, and uses it in an empty folder without a network. `--release`: the changelog must name a day.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
USED = (  # seconds each, and every room of the package is imported
    ("--version",),
    ("demo", "interpreter.methods=[saliency]", "augmentation.samples=8", "interpreter.steps=4", "out=runs"),
    ("list", "out=runs"),
    ("open", "out=runs", "--print"),
    ("neurons", "out=runs", "top=1", "steps=2", "layers=fc"),
    ("run", "image=cat.jpg", "pruner=obs", "--cfg", "job"),
    ("layers", "model=resnet18", "model.weights=none"),
    ("completion", "bash"),
)
NOT_SHIPPED = ("outputs/", ".github/", ".gitignore")  # of what git knows; the sdist has all else
BUILDERS = ("setuptools", "wheel")  # for a dependency of Hydra's that is published as source alone
NO_NETWORK = ("unshare", "--net", "--map-root-user")


def main() -> int:
    """Print what was checked; 1 where something is wrong."""
    asked = _arguments()
    problems = check_versions(asked.release)
    with tempfile.TemporaryDirectory(prefix="spade-release-") as folder:
        out = asked.out or Path(folder, "dist")
        run([sys.executable, "-m", "build", "--outdir", str(out), str(ROOT)])
        sdist, wheel = next(out.glob("*.tar.gz")), next(out.glob("*.whl"))
        run([sys.executable, "-m", "twine", "check", "--strict", str(sdist), str(wheel)])
        problems += check_files(sdist, wheel)
        for python in asked.python:
            problems += use_offline(python, wheel, asked.wheels or Path(folder, "wheels"), Path(folder))
    for problem in problems:
        print(f"problem: {problem}")
    print(f"{wheel.name} and {sdist.name}: {len(problems)} problems")
    return 1 if problems else 0


def check_versions(release: bool) -> list[str]:
    """The version file, the first heading of the changelog and CITATION.cff agree."""
    version = read_version()
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    heading = re.search(r"^## (\S+) \((.+)\)$", changelog, re.MULTILINE)
    cited = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    found = []
    if heading is None or heading[1] != version:
        found.append(f"the changelog begins with {heading and heading[1]}, and the version is {version}")
    if cited is None or cited[1] != version:
        found.append(f"CITATION.cff names {cited and cited[1]}, and the version is {version}")
    if release and tags(f"v{version}"):
        found.append(f"there is a tag v{version} already: raise the version")
    if release and (heading is None or not re.fullmatch(r"\d{4}-\d\d-\d\d", heading[2])):
        found.append("the changelog's first heading names no day, such as (2026-12-01)")
    return found


def tags(pattern: str) -> list[str]:
    """Tags of the repository; none outside of one."""
    command = ["git", "tag", "--list", pattern]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()


def read_version() -> str:
    """`__version__`, without importing the package."""
    text = (ROOT / "spade_cli" / "version.py").read_text(encoding="utf-8")
    (version,) = re.findall(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    return str(version)


def check_files(sdist: Path, wheel: Path) -> list[str]:
    """Everything that git knows is in the sdist; the package and its YAML files are in the wheel, and nothing else."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    known = {name for name in listed.stdout.splitlines() if not name.startswith(NOT_SHIPPED)}
    with tarfile.open(sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    with zipfile.ZipFile(wheel) as zipped:
        installed = {name for name in zipped.namelist() if ".dist-info/" not in name}
    package = {name for name in known if name.startswith("spade_cli/")}
    package |= {f"spade_cli/{name}" for name in known if name.startswith("configs/")}
    found = [f"{name} is not in the sdist" for name in sorted(known - packed)]
    found += [f"{name} is not in the wheel" for name in sorted(package - installed)]
    return found + [f"{name} does not belong into the wheel" for name in sorted(installed - package)]


def use_offline(python: str, wheel: Path, wheels: Path, folder: Path) -> list[str]:
    """Install from the folder of wheels alone, into an empty environment, and use every command without a network."""
    name = Path(python).parent.parent.name + Path(python).name
    venv, home = folder / f"venv-{name}", folder / f"home-{name}"
    run([python, "-m", "venv", str(venv)])
    bin_ = venv / "bin"
    wheels.mkdir(parents=True, exist_ok=True)
    pip = [str(bin_ / "python"), "-m", "pip", "--disable-pip-version-check"]
    run([*pip, "download", "--quiet", "--find-links", str(wheels), "--dest", str(wheels), str(wheel), *BUILDERS])
    run([*without_network(), *pip, "install", "--quiet", "--no-index", "--find-links", str(wheels), str(wheel)])
    home.mkdir()
    environment = {"PATH": f"{bin_}:{os.environ['PATH']}", "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}
    found = []
    for words in USED:
        done = subprocess.run(
            [*without_network(), str(bin_ / "spade"), *words], cwd=home, env=environment, capture_output=True, text=True
        )
        print(f"{python}: spade {' '.join(words)}: exit code {done.returncode}", flush=True)
        if done.returncode:
            found.append(f"{python}: spade {' '.join(words)}: {done.stderr.strip()[-300:]}")
    shutil.rmtree(venv)  # gigabytes
    return found


def without_network() -> Sequence[str]:
    """What goes before a command so that it has no network; nothing where the system has no such means."""
    if shutil.which(NO_NETWORK[0]) is None or subprocess.run([*NO_NETWORK, "true"], capture_output=True).returncode:
        return ()
    return NO_NETWORK


def run(command: Sequence[str]) -> None:
    """A command that must succeed."""
    print(" ".join(command), flush=True)
    subprocess.run(command, check=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--python", nargs="*", default=[], help="interpreters to install and use the wheel with")
    parser.add_argument("--wheels", type=Path, help="folder of the dependencies' wheels; filled where it lacks some")
    parser.add_argument("--out", type=Path, help="folder that keeps the sdist and the wheel")
    parser.add_argument("--release", action="store_true", help="the changelog must name the day of the release")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
