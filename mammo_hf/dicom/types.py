"""What a mammogram's header can say, as enumerations; what is missing or unknown is ``UNKNOWN``, never a guess."""

from __future__ import annotations

from enum import Enum
from typing import TypeVar

_Fact = TypeVar("_Fact", bound="_HeaderFact")


class _HeaderFact(Enum):
    """An enumeration that is read from the text of a DICOM attribute."""

    @classmethod
    def from_dicom(cls: type[_Fact], value: object) -> _Fact:
        """The member that a DICOM text stands for; ``UNKNOWN`` for anything else, for empty and for ``None``.

        Args:
            value: The attribute's value; upper or lower case, surrounding blanks do not matter.
        """
        text = str(value if value is not None else "").strip().upper()
        return next((member for member in cls if text and text in member.dicom_values()), cls["UNKNOWN"])

    def dicom_values(self) -> tuple[str, ...]:
        """The texts, in upper case, that stand for this member in a file."""
        return (str(self.value).upper(),) if self.value else ()


class Laterality(_HeaderFact):
    """Which breast: ImageLaterality (0020,0062), PS3.3 C.8.11.7."""

    LEFT = "L"
    RIGHT = "R"
    BOTH = "B"
    UNKNOWN = ""

    def dicom_values(self) -> tuple[str, ...]:
        """The code of the attribute and the word that other collections write."""
        return (self.value, self.name) if self.value else ()


class View(_HeaderFact):
    """The projection, by the abbreviations of PS3.3 C.8.11.7 and its codes of PS3.16 CID 4014.

    ``XCC`` is any exaggerated cranio-caudal view of which the side is not said.
    """

    CC = "CC"
    MLO = "MLO"
    ML = "ML"
    LM = "LM"
    LMO = "LMO"
    FB = "FB"
    SIO = "SIO"
    ISO = "ISO"
    XCC = "XCC"
    XCCL = "XCCL"
    XCCM = "XCCM"
    SPECIMEN = "SPECIMEN"
    UNKNOWN = ""

    @classmethod
    def from_code(cls, value: object) -> View:
        """The view of a code of CID 4014, in SNOMED CT or in the older SRT; ``UNKNOWN`` for any other."""
        text = str(value if value is not None else "").strip().upper()
        return next((view for view in cls if text and text in VIEW_CODES.get(view, ())), cls.UNKNOWN)

    @classmethod
    def from_meaning(cls, value: object) -> View:
        """The view of a code's meaning, such as "medio-lateral oblique"; ``UNKNOWN`` for any other."""
        text = " ".join(str(value if value is not None else "").lower().replace("medial-", "medio-").split())
        return next((view for view in cls if text and text == VIEW_MEANINGS.get(view)), cls.UNKNOWN)


# PS3.16 CID 4014 "View for Mammography": SNOMED CT first, then the SRT code of files written before 2020
VIEW_CODES: dict[View, tuple[str, str]] = {
    View.CC: ("399162004", "R-10242"),
    View.MLO: ("399368009", "R-10226"),
    View.ML: ("399260004", "R-10224"),
    View.LM: ("399352003", "R-10228"),
    View.LMO: ("399099002", "R-10230"),
    View.FB: ("399196006", "R-10244"),
    View.SIO: ("399188001", "R-102D0"),
    View.ISO: ("441555000", "R-40AAA"),
    View.XCCL: ("399192008", "R-1024A"),
    View.XCCM: ("399101009", "R-1024B"),
    View.SPECIMEN: ("127457009", "G-8310"),
}
# PS3.16 CID 4014, the codes' meanings
VIEW_MEANINGS: dict[View, str] = {
    View.CC: "cranio-caudal",
    View.MLO: "medio-lateral oblique",
    View.ML: "medio-lateral",
    View.LM: "latero-medial",
    View.LMO: "latero-medial oblique",
    View.FB: "caudo-cranial (from below)",
    View.SIO: "superolateral to inferomedial oblique",
    View.ISO: "inferomedial to superolateral oblique",
    View.XCCL: "cranio-caudal exaggerated laterally",
    View.XCCM: "cranio-caudal exaggerated medially",
    View.SPECIMEN: "tissue specimen from breast",
}


class ViewModifier(_HeaderFact):
    """How a view departs from the standard one: PS3.16 CID 4015 "View Modifier for Mammography"."""

    CLEAVAGE = "cleavage"
    AXILLARY_TAIL = "axillary tail"
    ROLLED_LATERAL = "rolled lateral"
    ROLLED_MEDIAL = "rolled medial"
    ROLLED_INFERIOR = "rolled inferior"
    ROLLED_SUPERIOR = "rolled superior"
    IMPLANT_DISPLACED = "implant displaced"
    MAGNIFICATION = "magnification"
    SPOT_COMPRESSION = "spot compression"
    TANGENTIAL = "tangential"
    NIPPLE_IN_PROFILE = "nipple in profile"
    ANTERIOR_COMPRESSION = "anterior compression"
    INFRAMAMMARY_FOLD = "infra-mammary fold"
    AXILLARY_TISSUE = "axillary tissue"
    UNKNOWN = ""

    @classmethod
    def from_code(cls, value: object) -> ViewModifier:
        """The modifier of a code of CID 4015, in SNOMED CT or in the older SRT; ``UNKNOWN`` for any other."""
        text = str(value if value is not None else "").strip().upper()
        return next((one for one in cls if text and text in MODIFIER_CODES.get(one, ())), cls.UNKNOWN)

    def dicom_values(self) -> tuple[str, ...]:
        """The code's meaning, and the abbreviations that ACR's protocol and consoles put beside ViewPosition."""
        return (self.value.upper(), *_MODIFIER_ABBREVIATIONS.get(self, ())) if self.value else ()


# PS3.16 CID 4015: SNOMED CT first, then the SRT code of files written before 2020
MODIFIER_CODES: dict[ViewModifier, tuple[str, ...]] = {
    ViewModifier.CLEAVAGE: ("399161006", "R-102D2"),
    ViewModifier.AXILLARY_TAIL: ("399011000", "R-102D1"),
    ViewModifier.ROLLED_LATERAL: ("399197002", "R-102D3"),
    ViewModifier.ROLLED_MEDIAL: ("399226006", "R-102D4"),
    ViewModifier.ROLLED_INFERIOR: ("414493004", "R-102CA"),
    ViewModifier.ROLLED_SUPERIOR: ("415670009", "R-102C9"),
    ViewModifier.IMPLANT_DISPLACED: ("399209000", "R-102D5"),
    ViewModifier.MAGNIFICATION: ("399163009", "R-102D6"),
    ViewModifier.SPOT_COMPRESSION: ("399055006", "R-102D7"),
    ViewModifier.TANGENTIAL: ("399110001", "R-102C2"),
    ViewModifier.NIPPLE_IN_PROFILE: ("442581004", "R-40AB3"),
    ViewModifier.ANTERIOR_COMPRESSION: ("441752004", "P2-00161"),
    ViewModifier.INFRAMAMMARY_FOLD: ("442593008", "R-40ABE"),
    ViewModifier.AXILLARY_TISSUE: ("442580003", "R-40AB2"),
}
# ACR, Mammography Quality Control Manual: labelling codes; they stand before the view (M, RL) or after it (S, ID)
_MODIFIER_ABBREVIATIONS: dict[ViewModifier, tuple[str, ...]] = {
    ViewModifier.CLEAVAGE: ("CV",),
    ViewModifier.AXILLARY_TAIL: ("AT",),
    ViewModifier.ROLLED_LATERAL: ("RL",),
    ViewModifier.ROLLED_MEDIAL: ("RM",),
    ViewModifier.ROLLED_INFERIOR: ("RI",),
    ViewModifier.ROLLED_SUPERIOR: ("RS",),
    ViewModifier.IMPLANT_DISPLACED: ("ID",),
    ViewModifier.MAGNIFICATION: ("M", "MAG"),
    ViewModifier.SPOT_COMPRESSION: ("S", "SPOT"),
    ViewModifier.TANGENTIAL: ("TAN",),
    ViewModifier.NIPPLE_IN_PROFILE: ("NP",),
    ViewModifier.ANTERIOR_COMPRESSION: ("AC",),
    ViewModifier.INFRAMAMMARY_FOLD: ("IMF",),
    ViewModifier.AXILLARY_TISSUE: ("AX",),
}


class Implant(_HeaderFact):
    """Whether the breast holds an implant: BreastImplantPresent (0028,1300), PS3.3 C.8.11.7."""

    PRESENT = "YES"
    ABSENT = "NO"
    UNKNOWN = ""


class ImageKind(_HeaderFact):
    """How the picture came about, by the short names of the field."""

    FFDM = "2D"
    TOMOSYNTHESIS = "tomosynthesis"
    TOMOSYNTHESIS_PROJECTION = "tomosynthesis projection"
    SYNTHETIC = "synthetic 2D"
    FILM = "film"
    UNKNOWN = ""


class PresentationIntent(_HeaderFact):
    """What the pixels were made for: PresentationIntentType (0008,0068), PS3.3 C.8.11.1."""

    FOR_PRESENTATION = "FOR PRESENTATION"
    FOR_PROCESSING = "FOR PROCESSING"
    UNKNOWN = ""


class Photometric(_HeaderFact):
    """Which end of the values is bright: PhotometricInterpretation (0028,0004), PS3.3 C.7.6.3.1.2."""

    MONOCHROME1 = "MONOCHROME1"
    MONOCHROME2 = "MONOCHROME2"
    UNKNOWN = ""


class Vendor(_HeaderFact):
    """The manufacturer's family, from Manufacturer (0008,0070), under any of the names that it has written there."""

    HOLOGIC = "hologic"
    GE = "ge"
    SIEMENS = "siemens"
    FUJIFILM = "fujifilm"
    PHILIPS = "philips"
    AGFA = "agfa"
    CARESTREAM = "carestream"
    PLANMED = "planmed"
    IMS_GIOTTO = "ims giotto"
    KONICA_MINOLTA = "konica minolta"
    FISCHER = "fischer"
    CANON = "canon"
    METALTRONICA = "metaltronica"
    UNKNOWN = ""

    @classmethod
    def from_dicom(cls, value: object) -> Vendor:
        """The family whose name the text begins with or contains as a word; ``UNKNOWN`` for any other."""
        text = " ".join(str(value if value is not None else "").upper().replace(",", " ").replace(".", " ").split())
        padded = f" {text} "
        return next(
            (vendor for vendor in cls if any(f" {name} " in padded for name in vendor.dicom_values())), cls.UNKNOWN
        )

    @classmethod
    def from_model(cls, value: object) -> Vendor:
        """By ManufacturerModelName (0008,1090), for files that lack the maker's; ``UNKNOWN`` for any other."""
        text = str(value if value is not None else "").upper()
        return next((one for one, names in _VENDOR_MODELS.items() if any(name in text for name in names)), cls.UNKNOWN)

    def dicom_values(self) -> tuple[str, ...]:
        """The words that the family's files carry in Manufacturer."""
        return _VENDOR_NAMES.get(self, ())


_VENDOR_NAMES: dict[Vendor, tuple[str, ...]] = {
    Vendor.HOLOGIC: ("HOLOGIC", "LORAD", "TREX"),
    Vendor.GE: ("GE", "GEMS", "GENERAL ELECTRIC"),
    Vendor.SIEMENS: ("SIEMENS",),
    Vendor.FUJIFILM: ("FUJIFILM", "FUJI"),
    Vendor.PHILIPS: ("PHILIPS", "SECTRA"),  # Philips took over Sectra's MicroDose line
    Vendor.AGFA: ("AGFA", "AGFA-GEVAERT", "AGFA_GEVAERT"),
    Vendor.CARESTREAM: ("CARESTREAM", "KODAK"),
    Vendor.PLANMED: ("PLANMED",),
    Vendor.IMS_GIOTTO: ("IMS", "GIOTTO", "INTERNAZIONALE MEDICO SCIENTIFICA"),
    Vendor.KONICA_MINOLTA: ("KONICA", "KONICA MINOLTA", "KONICAMINOLTA"),
    Vendor.METALTRONICA: ("METALTRONICA",),
    Vendor.FISCHER: ("FISCHER",),
    Vendor.CANON: ("CANON", "TOSHIBA"),  # Canon took over Toshiba's medical systems
}
_VENDOR_MODELS: dict[Vendor, tuple[str, ...]] = {
    Vendor.HOLOGIC: ("SELENIA", "3DIMENSIONS", "LORAD"),
    Vendor.GE: ("SENOGRAPH", "SENO ", "SENOCLAIRE", "PRISTINA"),
    Vendor.SIEMENS: ("MAMMOMAT",),
    Vendor.FUJIFILM: ("AMULET", "FDR-3000", "FDR MS"),
    Vendor.PHILIPS: ("MICRODOSE",),
    Vendor.PLANMED: ("NUANCE", "PLANMED CLARITY"),
    Vendor.IMS_GIOTTO: ("GIOTTO",),
    Vendor.FISCHER: ("SENOSCAN",),
}
