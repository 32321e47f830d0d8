"""The vocabulary of a mammogram's header, as enumerations, and the one error that reading a mammogram raises.

What a header does not say, or says in unknown words, is ``UNKNOWN``, never a guess.
"""

from __future__ import annotations

from enum import Enum
from typing import TypeVar

from ..errors import DataError

_Fact = TypeVar("_Fact", bound="_HeaderFact")
_Coded = TypeVar("_Coded", bound="_CodedFact")


class MammogramError(DataError):
    """A file that cannot be read as a mammogram: which one, what is wrong with it, and what to do.

    The text names the source as the caller gave it and never repeats a value that the file holds about a person.
    """


class _HeaderFact(Enum):
    """An enumeration that is read from the text of a DICOM attribute; further facts of a member follow its value."""

    _value_: str

    def __new__(cls: type[_Fact], value: str, *_: object) -> _Fact:
        member = object.__new__(cls)
        member._value_ = value
        return member

    @classmethod
    def from_dicom(cls: type[_Fact], value: object) -> _Fact:
        """Return the member for a DICOM text; ``UNKNOWN`` for any other text, an empty one and ``None``.

        Args:
            value: Value of the attribute, or a member; case and surrounding blanks do not matter.
        """
        text = _upper(value)
        return next((member for member in cls if text and text in member.dicom_values()), cls["UNKNOWN"])

    def dicom_values(self) -> tuple[str, ...]:
        """Return the texts, in upper case, that this member has in a file."""
        return (self.value.upper(),) if self.value else ()


class _CodedFact(_HeaderFact):
    """A fact that files also give as a code.

    A member is written as its value, its SNOMED CT code followed by the SRT code of files written before 2020, and its
    other names.
    """

    def __init__(self, value: str, codes: tuple[str, ...] = (), *names: str) -> None:
        self.codes, self.names = codes, names

    @classmethod
    def from_code(cls: type[_Coded], value: object, meaning: object = None) -> _Coded:
        """Return the member of a code, in SNOMED CT or in the older SRT, else of its meaning, else ``UNKNOWN``."""
        text = _upper(value)
        return next((member for member in cls if text and text in member.codes), cls.from_meaning(meaning))

    @classmethod
    def from_meaning(cls: type[_Coded], value: object) -> _Coded:
        """Return the member of a code's meaning, such as "medio-lateral oblique"; ``UNKNOWN`` for any other."""
        return cls.from_dicom(value)


def _upper(value: object) -> str:
    value = value.value if isinstance(value, Enum) else value
    return str(value if value is not None else "").strip().upper()


class Laterality(_HeaderFact):
    """Side of the breast: ImageLaterality (0020,0062), PS3.3 C.8.11.7."""

    LEFT = "L"
    RIGHT = "R"
    BOTH = "B"
    UNKNOWN = ""

    def dicom_values(self) -> tuple[str, ...]:
        """Return the code of the attribute and the word that other collections write."""
        return (self.value, self.name) if self.value else ()


class View(_CodedFact):
    """The projection, by the abbreviations of PS3.3 C.8.11.7, with codes and meaning of PS3.16 CID 4014.

    ``XCC`` is any exaggerated cranio-caudal view that does not name its side.
    """

    CC = "CC", ("399162004", "R-10242"), "cranio-caudal"
    MLO = "MLO", ("399368009", "R-10226"), "medio-lateral oblique"
    ML = "ML", ("399260004", "R-10224"), "medio-lateral"
    LM = "LM", ("399352003", "R-10228"), "latero-medial"
    LMO = "LMO", ("399099002", "R-10230"), "latero-medial oblique"
    FB = "FB", ("399196006", "R-10244"), "caudo-cranial (from below)"
    SIO = "SIO", ("399188001", "R-102D0"), "superolateral to inferomedial oblique"
    ISO = "ISO", ("441555000", "R-40AAA"), "inferomedial to superolateral oblique"
    XCC = "XCC"
    XCCL = "XCCL", ("399192008", "R-1024A"), "cranio-caudal exaggerated laterally"
    XCCM = "XCCM", ("399101009", "R-1024B"), "cranio-caudal exaggerated medially"
    SPECIMEN = "SPECIMEN", ("127457009", "G-8310"), "tissue specimen from breast"
    UNKNOWN = ""

    @classmethod
    def from_meaning(cls, value: object) -> View:
        """Return the view of a code's meaning, also if it is written "medial-lateral"; ``UNKNOWN`` for any other."""
        text = " ".join(_upper(value).lower().replace("medial-", "medio-").split())
        return next((view for view in cls if text in view.names), cls.UNKNOWN)


class ViewModifier(_CodedFact):
    """Departure of a view from the standard one: PS3.16 CID 4015 "View Modifier for Mammography".

    The other names are the labelling codes of the ACR's Mammography Quality Control Manual, which consoles put next to
    ViewPosition: before the view (M, RL) or after it (S, ID).
    """

    CLEAVAGE = "cleavage", ("399161006", "R-102D2"), "CV"
    AXILLARY_TAIL = "axillary tail", ("399011000", "R-102D1"), "AT"
    ROLLED_LATERAL = "rolled lateral", ("399197002", "R-102D3"), "RL"
    ROLLED_MEDIAL = "rolled medial", ("399226006", "R-102D4"), "RM"
    ROLLED_INFERIOR = "rolled inferior", ("414493004", "R-102CA"), "RI"
    ROLLED_SUPERIOR = "rolled superior", ("415670009", "R-102C9"), "RS"
    IMPLANT_DISPLACED = "implant displaced", ("399209000", "R-102D5"), "ID"
    MAGNIFICATION = "magnification", ("399163009", "R-102D6"), "M", "MAG"
    SPOT_COMPRESSION = "spot compression", ("399055006", "R-102D7"), "S", "SPOT"
    TANGENTIAL = "tangential", ("399110001", "R-102C2"), "TAN"
    NIPPLE_IN_PROFILE = "nipple in profile", ("442581004", "R-40AB3"), "NP"
    ANTERIOR_COMPRESSION = "anterior compression", ("441752004", "P2-00161"), "AC"
    INFRAMAMMARY_FOLD = "infra-mammary fold", ("442593008", "R-40ABE"), "IMF"
    AXILLARY_TISSUE = "axillary tissue", ("442580003", "R-40AB2"), "AX"
    UNKNOWN = ""

    def dicom_values(self) -> tuple[str, ...]:
        """Return the code's meaning and its abbreviations."""
        return (self.value.upper(), *self.names) if self.value else ()


class Implant(_HeaderFact):
    """Presence of an implant: BreastImplantPresent (0028,1300), PS3.3 C.8.11.7."""

    PRESENT = "YES"
    ABSENT = "NO"
    UNKNOWN = ""


class ImageKind(_HeaderFact):
    """Kind of image, by the short names of the field."""

    FFDM = "2D"
    TOMOSYNTHESIS = "tomosynthesis"
    TOMOSYNTHESIS_PROJECTION = "tomosynthesis projection"
    SYNTHETIC = "synthetic 2D"
    FILM = "film"
    UNKNOWN = ""


class PresentationIntent(_HeaderFact):
    """Purpose of the pixels: PresentationIntentType (0008,0068), PS3.3 C.8.11.1."""

    FOR_PRESENTATION = "FOR PRESENTATION"
    FOR_PROCESSING = "FOR PROCESSING"
    UNKNOWN = ""


class Photometric(_HeaderFact):
    """Bright end of the values: PhotometricInterpretation (0028,0004), PS3.3 C.7.6.3.1.2."""

    MONOCHROME1 = "MONOCHROME1"
    MONOCHROME2 = "MONOCHROME2"
    UNKNOWN = ""


class Vendor(_HeaderFact):
    """The manufacturer's family.

    A member is written as its value, the names that its files carry in Manufacturer (0008,0070), and parts of its
    ManufacturerModelName (0008,1090).
    """

    HOLOGIC = "hologic", ("HOLOGIC", "LORAD", "TREX"), ("SELENIA", "3DIMENSIONS", "LORAD")
    GE = "ge", ("GE", "GEMS", "GENERAL ELECTRIC"), ("SENOGRAPH", "SENO ", "SENOCLAIRE", "PRISTINA")
    SIEMENS = "siemens", ("SIEMENS",), ("MAMMOMAT",)
    FUJIFILM = "fujifilm", ("FUJIFILM", "FUJI"), ("AMULET", "FDR-3000", "FDR MS")
    PHILIPS = "philips", ("PHILIPS", "SECTRA"), ("MICRODOSE",)  # Philips took over Sectra's MicroDose line
    AGFA = "agfa", ("AGFA", "AGFA-GEVAERT", "AGFA_GEVAERT")
    CARESTREAM = "carestream", ("CARESTREAM", "KODAK")
    PLANMED = "planmed", ("PLANMED",), ("NUANCE", "PLANMED CLARITY")
    IMS_GIOTTO = "ims giotto", ("IMS", "GIOTTO", "INTERNAZIONALE MEDICO SCIENTIFICA"), ("GIOTTO",)
    KONICA_MINOLTA = "konica minolta", ("KONICA", "KONICA MINOLTA", "KONICAMINOLTA")
    FISCHER = "fischer", ("FISCHER",), ("SENOSCAN",)
    CANON = "canon", ("CANON", "TOSHIBA")  # Canon took over Toshiba's medical systems
    METALTRONICA = "metaltronica", ("METALTRONICA",)
    UNKNOWN = ""

    def __init__(self, value: str, names: tuple[str, ...] = (), models: tuple[str, ...] = ()) -> None:
        self.names, self.models = names, models

    @classmethod
    def from_dicom(cls, value: object) -> Vendor:
        """Return the family that a manufacturer's name contains as a word; ``UNKNOWN`` for any other."""
        padded = f" {' '.join(_upper(value).replace(',', ' ').replace('.', ' ').split())} "
        return next((vendor for vendor in cls if any(f" {name} " in padded for name in vendor.names)), cls.UNKNOWN)

    @classmethod
    def from_model(cls, value: object) -> Vendor:
        """Return the family of a model's name, for files that lack the maker's; ``UNKNOWN`` for any other."""
        # not stripped: a model such as "SENO " is recognised by its blank
        text = str(value if value is not None else "").upper()
        return next((vendor for vendor in cls if any(model in text for model in vendor.models)), cls.UNKNOWN)

    def dicom_values(self) -> tuple[str, ...]:
        """Return the names that the family's files carry in Manufacturer."""
        return self.names
