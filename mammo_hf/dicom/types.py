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

    def dicom_values(self) -> tuple[str, ...]:
        """The words that the family's files carry in Manufacturer."""
        return _VENDOR_NAMES.get(self, ())


_VENDOR_NAMES: dict[Vendor, tuple[str, ...]] = {
    Vendor.HOLOGIC: ("HOLOGIC", "LORAD"),
    Vendor.GE: ("GE", "GEMS", "GENERAL ELECTRIC"),
    Vendor.SIEMENS: ("SIEMENS",),
    Vendor.FUJIFILM: ("FUJIFILM", "FUJI"),
    Vendor.PHILIPS: ("PHILIPS", "SECTRA"),  # Philips took over Sectra's MicroDose line
    Vendor.AGFA: ("AGFA", "AGFA-GEVAERT"),
    Vendor.CARESTREAM: ("CARESTREAM", "KODAK"),
    Vendor.PLANMED: ("PLANMED",),
    Vendor.IMS_GIOTTO: ("IMS", "GIOTTO"),
    Vendor.KONICA_MINOLTA: ("KONICA", "KONICA MINOLTA", "KONICAMINOLTA"),
    Vendor.METALTRONICA: ("METALTRONICA",),
}
