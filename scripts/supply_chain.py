"""Write what the package brings along: an SBOM (CycloneDX 1.6) and a list of licences, of the runtime and all extras.

    python scripts/supply_chain.py --output_dir build/supply_chain

It reads the metadata of the packages that are installed here, and makes no request.
"""

from __future__ import annotations

import argparse
import json
import re
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# extras for work on the project; what they bring is not passed on
DEVELOPMENT = {"dev", "docs"}
# SPDX identifiers of what packages state in words or by a classifier alone
_IN_WORDS = {
    "apache": "Apache-2.0",
    "bsd-3": "BSD-3-Clause",
    "3-clause": "BSD-3-Clause",
    "bsd": "BSD-3-Clause",
    "mit-cmu": "MIT-CMU",
    "mit": "MIT",
    "python software foundation": "PSF-2.0",
    "psf": "PSF-2.0",
    "mozilla": "MPL-2.0",
    "mpl": "MPL-2.0",
    "isc": "ISC",
    "unlicense": "Unlicense",
    "zope": "ZPL-2.1",
    "lesser general public": "LGPL-2.1-or-later",
    "lgpl": "LGPL-2.1-or-later",
    "general public": "GPL-2.0-or-later",
    "gpl": "GPL-2.0-or-later",
    "public domain": "LicenseRef-Public-Domain",
}


def shipped(root: str = "mammo-hf", left_out: set[str] = DEVELOPMENT) -> dict[str, Distribution]:
    """Return the package and all that its runtime and its extras need, by canonical name.

    Args:
        root: Package to start from.
        left_out: Extras that are not followed.
    """
    found: dict[str, Distribution] = {}
    extras = set(distribution(root).metadata.get_all("Provides-Extra") or ()) - left_out
    waiting = [(root, frozenset(extras))]
    seen = set()
    while waiting:
        name, wanted = key = waiting.pop()
        if key in seen:
            continue
        seen.add(key)
        try:
            found[canonicalize_name(name)] = package = distribution(name)
        except PackageNotFoundError:  # an extra that is not installed here
            continue
        for line in package.requires or ():
            need = Requirement(line)
            environments = [{**default_environment(), "extra": extra} for extra in ("", *wanted)]
            if need.marker is None or any(need.marker.evaluate(one) for one in environments):
                waiting.append((need.name, frozenset(need.extras)))
    return dict(sorted(found.items()))


def licence_of(package: Distribution) -> str:
    """Return the licence of a package as an SPDX expression; an empty text if neither metadata nor licence file say."""
    metadata: Any = package.metadata
    stated = metadata.get("License-Expression")
    if stated:
        return str(stated)
    given = (metadata.get("License") or "").strip()
    if re.search(r"\b(AND|OR)\b", given) and "\n" not in given:
        return given
    classifiers = [one.rpartition(" :: ")[2] for one in metadata.get_all("Classifier") or () if "License ::" in one]
    files = [one for one in package.files or () if one.name in metadata.get_all("License-File", [])]
    headings = [] if classifiers or given else [one.read_text().strip().partition("\n")[0] for one in files]
    texts = [*classifiers, given.partition("\n")[0], *headings]
    named = [next((spdx for word, spdx in _IN_WORDS.items() if word in text.lower()), "") for text in texts]
    known = list(dict.fromkeys(filter(None, named)))
    return " AND ".join(known[:1] if not classifiers else known)


def is_free(expression: str) -> bool:
    """Return whether an SPDX expression lets us do without the GPL and its kin; of an OR the free branch counts.

    Args:
        expression: Expression of SPDX identifiers with AND, OR, WITH and parentheses.

    Raises:
        ValueError: It is not one.
    """
    tokens = re.findall(r"\(|\)|[^\s()]+", expression)

    def either() -> bool:
        value = both()
        while tokens and tokens[0].upper() == "OR":
            tokens.pop(0)
            value = both() or value
        return value

    def both() -> bool:
        value = one()
        while tokens and tokens[0].upper() == "AND":
            tokens.pop(0)
            value = one() and value
        return value

    def one() -> bool:
        if not tokens or tokens[0].upper() in ("AND", "OR", "WITH", ")"):
            raise ValueError(f"{expression!r} is not an SPDX expression")
        token = tokens.pop(0)
        if token == "(":
            value = either()
            if not tokens or tokens.pop(0) != ")":
                raise ValueError(f"{expression!r} is not an SPDX expression")
            return value
        if tokens and tokens[0].upper() == "WITH":
            del tokens[:2]
        return re.match(r"(?:A|L)?GPL", token, re.IGNORECASE) is None

    value = either()
    if tokens:
        raise ValueError(f"{expression!r} is not an SPDX expression")
    return value


def sbom(packages: dict[str, Distribution], root: str = "mammo-hf") -> dict[str, object]:
    """Return the packages as a CycloneDX document, the same for the same packages."""
    parts = {
        name: {
            "type": "application" if name == root else "library",
            "bom-ref": f"pkg:pypi/{name}@{package.version}",
            "name": name,
            "version": package.version,
            "purl": f"pkg:pypi/{name}@{package.version}",
            **({"licenses": [{"expression": licence}]} if (licence := licence_of(package)) else {}),
        }
        for name, package in packages.items()
    }
    needs = []
    for name, package in packages.items():
        named = {canonicalize_name(Requirement(line).name) for line in package.requires or ()}
        needs.append(
            {"ref": parts[name]["bom-ref"], "dependsOn": [parts[one]["bom-ref"] for one in sorted(named & set(parts))]}
        )
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": parts[root]},
        "components": [part for name, part in parts.items() if name != root],
        "dependencies": needs,
    }


def main() -> None:
    """Write ``sbom.cdx.json`` and ``licences.csv``."""
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--output_dir", default="build/supply_chain", help="folder to write to (default: %(default)s)")
    out = Path(p.parse_args().output_dir)
    out.mkdir(parents=True, exist_ok=True)
    packages = shipped()
    (out / "sbom.cdx.json").write_text(json.dumps(sbom(packages), indent=1) + "\n", encoding="utf-8")
    rows = [f'{name},{package.version},"{licence_of(package)}"' for name, package in packages.items()]
    (out / "licences.csv").write_text("\n".join(["package,version,licence", *rows, ""]), encoding="utf-8")
    print(f"{len(packages)} packages in {out}: sbom.cdx.json, licences.csv")


if __name__ == "__main__":
    main()
