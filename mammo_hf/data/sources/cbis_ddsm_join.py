"""CBIS-DDSM's files told apart: which file is the film, and which region file is the mask of which abnormality."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from .cbis_ddsm_cases import Abnormality, Film
from .cbis_ddsm_files import ImageFile, Name
from .contents import Contents


@dataclass
class SortedFiles:
    """The collection's files: one path a film file's name, the region files of each film, and how many were copies."""

    films: dict[Name, str] = field(default_factory=dict)
    regions: dict[Film, list[ImageFile]] = field(default_factory=dict)
    copies: int = 0


def sort_files(files: Iterable[ImageFile], contents: Contents) -> SortedFiles:
    """Tells films from regions.

    Args:
        files: Files with a name, the preferred ones first.
        contents: Asked only where several files claim to be the same film.
    """
    result = SortedFiles()
    claims: dict[Name, list[ImageFile]] = {}
    for file in files:
        assert file.name is not None
        if file.is_region:
            result.regions.setdefault(file.name.film, []).append(file)
        else:
            claims.setdefault(file.name._replace(number=None), []).append(file)
    for name, claimants in claims.items():
        film = claimants[0] if len(claimants) == 1 else _largest_with_grey(claimants, contents)
        result.films[name] = film.path
        for other in claimants:
            if other is film:
                continue
            if contents.size(other.path) == contents.size(film.path) and not contents.is_mask(other.path):
                result.copies += 1
            else:
                result.regions.setdefault(name.film, []).append(other)
    return result


def _largest_with_grey(claimants: Sequence[ImageFile], contents: Contents) -> ImageFile:
    """The film among files of one folder: no mask, and no smaller than any other; the first of equals."""

    def area(file: ImageFile) -> int:
        size = contents.size(file.path)
        return 0 if size is None else size[0] * size[1]

    return max(claimants, key=lambda file: (area(file) > 0 and not contents.is_mask(file.path), area(file)))


def region_files(finding: Abnormality, findings: Sequence[Abnormality], regions: Sequence[ImageFile]) -> list[str]:
    """The region files that belong to one abnormality of a film: its crop and its mask, in no particular order.

    A short name gives no lesion type, and some layouts give no number: such a file belongs to an abnormality only if
    no other of the same film can claim it.

    Args:
        finding: The abnormality.
        findings: All abnormalities of the film, `finding` among them.
        regions: All region files of the film.
    """
    exact = [file.path for file in regions if _fits(file, finding, exactly=True)]
    if exact:
        return exact
    rivals = [
        other
        for other in findings
        if other is not finding and not any(_fits(file, other, exactly=True) for file in regions)
    ]
    return [
        file.path
        for file in regions
        if _fits(file, finding, exactly=False) and not any(_fits(file, other, exactly=False) for other in rivals)
    ]


def _fits(file: ImageFile, finding: Abnormality, *, exactly: bool) -> bool:
    name = file.name
    assert name is not None
    loose = () if exactly else (None,)
    return name.kind in (finding.kind, *loose) and name.number in (finding.number, *loose)


def choose_mask(film: str, regions: Sequence[str], contents: Contents) -> tuple[str | None, bool]:
    """The mask among an abnormality's region files, by content: it has the film's size, a crop is smaller.

    Args:
        film: The film's path.
        regions: The region files' paths.
        contents: Reads the headers; pixels only where several files have the film's size, or none has.

    Returns:
        The mask's path or ``None``, and whether there is a mask that does not have the film's size.
    """
    size = contents.size(film) if regions else None
    if size is None:
        return None, False
    candidates = [path for path in regions if contents.size(path) == size]
    if len(candidates) > 1:
        candidates = [path for path in candidates if contents.is_mask(path)]
    if candidates:
        return candidates[0], False
    return None, any(contents.is_mask(path) for path in regions)
