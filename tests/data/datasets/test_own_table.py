"""Own tables as people have them: each is read right, or refused in one sentence, on the first try."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mammo_hf.cli import main
from mammo_hf.data.datasets.mapping import read_mapping
from mammo_hf.data.loading import load
from mammo_hf.errors import DataError, MammoError, UsageError

PATIENTS = ("p1", "p1", "p2", "p2", "p3", "p3", "p4", "p4")
RESULTS = ("benign", "benign", "malignant", "malignant", "benign", "benign", "malignant", "malignant")


def films(folder: Path, names) -> None:
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.arange(200, dtype=np.uint8).reshape(20, 10) + np.uint8(number)).save(path)


def table(folder: Path, text: str, name: str = "labels.csv", encoding: str = "utf-8") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(text.encode(encoding))
    return folder / name


def rows_of(header: str, *columns, separator: str = ",") -> str:
    return "\n".join([header, *(separator.join(cells) for cells in zip(*columns, strict=True))]) + "\n"


NAMES = tuple(f"{number}.png" for number in range(8))
GERMAN = ["gutartig" if result == "benign" else "bösartig" for result in RESULTS]
PAIRS = list(zip(NAMES[::2], NAMES[1::2], strict=True))


@pytest.fixture
def folder(tmp_path):
    films(tmp_path, NAMES)
    return tmp_path


def summary(collection, *names):
    return [tuple(row[name] for name in names) for row in collection]


# Header and words in five languages

LANGUAGES = {
    "english": ("file,patient id,laterality,view,age,pathology", "L,R", "CC,MLO", "benign,malignant"),
    "german": ("Datei,Pat.-Nr.,Seite,Aufnahme,Alter,Befund", "links,rechts", "CC,schräg", "gutartig,bösartig"),
    "french": ("Fichier,N° patient,Côté,Incidence,Âge,Diagnostic", "gauche,droite", "face,oblique", "bénin,malin"),
    "spanish": ("Archivo,Paciente,Lado,Proyección,Edad,Diagnóstico", "izquierda,derecha", "CC,OML", "benigno,maligno"),
    "french laboratory": (
        "Nom du fichier,N° de dossier,Sein,Incidence,Âge,Résultat anatomopathologique",
        "sein gauche,sein droit",
        "CC,MLO",
        "bénin,malin",
    ),
    "spanish history": ("Archivo,Nº historia,Mama,Proyección,Edad,Histopatología", "Izq.,Der.", "CC,OML", "B,M"),
    "portuguese": ("Arquivo,Prontuário,Lateralidade,Incidência,Idade,Resultado", "E,D", "CC,MLO", "benigno,maligno"),
}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_header_and_words_in_five_languages(folder, language, encoding):
    header, sides, views, results = LANGUAGES[language]
    side, view, result = (words.split(",") for words in (sides, views, results))
    lines = [f"{NAMES[n]};{PATIENTS[n]};{side[n % 2]};{view[n // 2 % 2]};62,5;{result[n // 2 % 2]}" for n in range(8)]
    text = "sep=;\r\n" + "\r\n".join([header.replace(",", ";"), *lines]) + "\r\n"
    collection = load(table(folder, text, encoding=encoding))
    assert collection.column("pathology") == list(RESULTS)
    assert collection.column("laterality") == ["L", "R"] * 4
    assert collection.column("view")[:4] == ["CC", "CC", "MLO", "MLO"]  # OML, oblicua medio-lateral, is the same
    assert set(collection.column("age_band")) == {"60-69"}
    assert len(set(collection.column("patient"))) == 4


# Messy tables, each way twice or more: read right, or refused in one sentence, on the first try


def excel(folder: Path, header, rows, before=()) -> Path:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    sheet = book.active
    if before:
        sheet.append(before)
        sheet = book.create_sheet()
    sheet.append(header)
    for row in rows:
        sheet.append(row)
    book.save(folder / "labels.xlsx")
    return folder / "labels.xlsx"


READ = {
    "tab separated": lambda f: table(f, rows_of("path\tpatient\tlabel", NAMES, PATIENTS, RESULTS, separator="\t")),
    "bar separated, byte order mark": lambda f: table(
        f, rows_of("path|patient|label", NAMES, PATIENTS, RESULTS, separator="|"), encoding="utf-8-sig"
    ),
    "a workbook": lambda f: excel(
        f, ["File", "Patient", "Result"], zip(NAMES, [1, 1, 2, 2, 3, 3, 4, 4], RESULTS, strict=True)
    ),
    "a workbook with empty columns": lambda f: excel(
        f, ["File", "Patient", "Result", None, None], zip(NAMES, PATIENTS, RESULTS, strict=True)
    ),
    "Windows paths of another machine": lambda f: table(
        f, rows_of("path,patient,label", [rf"D:\Mammo\Films\{name}" for name in NAMES], PATIENTS, RESULTS)
    ),
    "paths of a network drive in capitals": lambda f: table(
        f, rows_of("path,patient,label", [rf"\\srv\films\{name.upper()}" for name in NAMES], PATIENTS, RESULTS)
    ),
    "names without their suffix": lambda f: table(
        f, rows_of("image_id,patient_id,diagnosis", [name[:-4] for name in NAMES], PATIENTS, RESULTS)
    ),
    "file names in an odd column": lambda f: table(
        f, rows_of("Scan,Subject,Histology", NAMES, PATIENTS, [result.upper() for result in RESULTS])
    ),
    "empty rows and spaces": lambda f: table(
        f, rows_of(" path , patient , label ", [f" {name} " for name in NAMES], PATIENTS, RESULTS) + "\n,,\n\n"
    ),
    "delimiters at the end of each row": lambda f: table(
        f, rows_of("path;patient;label;;", NAMES, PATIENTS, [f"{result};;" for result in RESULTS], separator=";")
    ),
    "columns that say nothing here": lambda f: table(
        f, rows_of("id,path,patient,label,remark", "abcdefgh", NAMES, PATIENTS, RESULTS, ['"x, y"'] * 8)
    ),
    "units in brackets": lambda f: table(
        f, rows_of("Fichier [PNG];Patiente (n°);Diagnostic (histologie)", NAMES, PATIENTS, RESULTS, separator=";")
    ),
    "empty lines above the header": lambda f: table(
        f, "\n\r\n" + rows_of("path,patient,label", NAMES, PATIENTS, RESULTS)
    ),
    "UTF-16 without its mark, tabs": lambda f: table(
        f, rows_of("path\tpatient\tlabel", NAMES, PATIENTS, RESULTS, separator="\t"), encoding="utf-16-le"
    ),
    "sep= with a tab": lambda f: table(
        f, "sep=\t\r\n" + rows_of("path\tpatient\tlabel", NAMES, PATIENTS, RESULTS, separator="\t")
    ),
    "patients and sides as people write them": lambda f: table(
        f,
        rows_of(
            "path,patient,side,view,label",
            NAMES,
            [f'="{patient}"' for patient in PATIENTS],
            ["Right breast", "left breast", "SIN", "dextra", "unknown", "?", "rt", "mamma links"],
            ["unknown", "n/a", *["CC"] * 6],
            RESULTS,
        ),
    ),
    "several files in a cell": lambda f: table(
        f, rows_of("path,patient,label", map(";".join, PAIRS), PATIENTS[::2], RESULTS[::2])
    ),
    "several files in a cell, with bars": lambda f: table(
        f, rows_of("images;case;result", map(" | ".join, PAIRS), PATIENTS[::2], RESULTS[::2], separator=";")
    ),
    "several files in the lines of a cell": lambda f: excel(
        f, ["File", "Patient", "Result"], zip(map("\n".join, PAIRS), PATIENTS[::2], RESULTS[::2], strict=True)
    ),
    "line ends of a Macintosh": lambda f: table(
        f, rows_of("path,patient,label", NAMES, PATIENTS, RESULTS).replace("\n", "\r")
    ),
    "line ends of a Macintosh, sep=;": lambda f: table(
        f, ("sep=;\n" + rows_of("path;patient;label", NAMES, PATIENTS, RESULTS, separator=";")).replace("\n", "\r")
    ),
    "letters of a Macintosh": lambda f: table(
        f, rows_of("Datei;Fall;Dignität", NAMES, PATIENTS, GERMAN, separator=";"), encoding="mac_roman"
    ),
    "letters of MS-DOS": lambda f: table(
        f, rows_of("Datei;Fall;Dignität", NAMES, PATIENTS, GERMAN, separator=";"), encoding="cp850"
    ),
    "a quoted header with more commas than semicolons": lambda f: table(
        f, rows_of('path;patient;"label (1, 2, 3, 4)"', NAMES, PATIENTS, RESULTS, separator=";")
    ),
    "characters that nobody sees": lambda f: table(
        f, rows_of("path,patient,label", NAMES, ["p1", "p1\u200b", "p2\xa0", "\ufeffp2", *PATIENTS[4:]], RESULTS)
    ),
    "an empty column of patients before the full one": lambda f: table(
        f, rows_of("path,patient,patient_id,label", NAMES, [""] * 8, PATIENTS, RESULTS)
    ),
    "a workbook that begins with a page to read": lambda f: excel(
        f, ["File", "Patient", "Result"], zip(NAMES, PATIENTS, RESULTS, strict=True), before=["Read me", "Ask Dr. X"]
    ),
    "two patients' columns": lambda f: table(
        f, rows_of("path,case,patient_id,label", NAMES, "abcdefgh", PATIENTS, RESULTS)
    ),
}


@pytest.mark.parametrize("way", READ)
def test_messy_tables_are_read_on_the_first_try(folder, way):
    collection = load(READ[way](folder))
    assert [Path(path).name for path in collection.column("path")] == list(NAMES)
    assert collection.column("pathology") == list(RESULTS)
    assert len(set(collection.column("patient"))) == 4
    assert collection.rejected == []


IDENTITY = ("path,patient,exam,side,view,split,label", ",L,CC,train,benign")
REFUSED = {
    "unknown words": (
        rows_of("path,patient,label", NAMES, PATIENTS, ["benign", "odd", "odd", *["malignant"] * 4, "queer"]),
        r"column 'label' has words that are not known: odd \(2\), queer \(1\), first in row 2; write down .*mapping",
    ),
    "free text as labels": (
        rows_of("path,patient,pathology", NAMES, PATIENTS, ["benign", *(f"see letter {n}" for n in range(7))]),
        r"column 'pathology' has words that are not known: see letter 0 \(1\)",
    ),
    "no patient": (rows_of("path,label", NAMES, RESULTS), "no column names the patient"),
    "no patient, other words": (rows_of("Datei,Befund", NAMES, RESULTS), "no column names the patient"),
    "one label": (
        rows_of("path,patient,label", NAMES, PATIENTS, ["benign"] * 8),
        "'label' says 'benign' in each of its 8 rows",
    ),
    "no cancer anywhere": (rows_of("path,patient,cancer", NAMES, PATIENTS, ["0"] * 8), "'cancer' says '0' in each"),
    "no file": (
        rows_of("path,patient,label", [f"films/x{n}" for n in NAMES], PATIENTS, RESULTS),
        r"8 of 8 files .*: films/x0\.png, .*TABLE:FOLDER",
    ),
    "no file, from Windows": (
        rows_of("path,patient,label", [rf"C:\x\{n}.dcm" for n in NAMES], PATIENTS, RESULTS),
        "8 of 8 files",
    ),
    "numbers of a spreadsheet": (
        rows_of("path,patient,label", NAMES, ["1", "1.0", "0001", "2", "2", "3", "4", "4"], RESULTS),
        "'patient' writes 1 patient numbers in several ways, as 1, 1.0 and .*: row 1 and row 2 and row 3; write",
    ),
    "numbers without zeros": (
        rows_of("path,patient,label", NAMES, ["007", "7", "8", "008", "3", "3", "4", "4"], RESULTS),
        "writes 2 patient numbers in several ways",
    ),
    "numbers in two cases": (
        rows_of("path,patient,label", NAMES, ["a1", "A1", "B2", "b2", "c", "c", "d", "d"], RESULTS),
        "writes 2 patient numbers in several ways",
    ),
    "numbers with signs in between": (
        rows_of("path,patient,label", NAMES, ["P-0001", "p_1", "P-11", "P-11", *PATIENTS[4:]], RESULTS),
        "writes 1 patient numbers in several ways, .* or P-1 and p_01: row 1 and row 2;",
    ),
    "rounded numbers": (
        rows_of("path,patient,label", NAMES, [*["1.23457E+11"] * 4, *["9.87654E+11"] * 4], RESULTS),
        "row 1: column 'patient' holds rounded numbers .* in 8 rows",
    ),
    "rounded numbers, comma": (
        rows_of("path;patient;label", NAMES, [*["1,23457E+11"] * 4, *["p2"] * 4], RESULTS, separator=";"),
        "holds rounded numbers .* in 4 rows",
    ),
    "long numbers that end in zeros": (
        rows_of("path,patient,label", NAMES, [f"12345678901234{p[1]}0" for p in PATIENTS], RESULTS),
        "row 1: column 'patient' holds rounded numbers of over 15 digits that all end in 0 in 8 rows",
    ),
    "one patient": (rows_of("path,patient,label", NAMES, ["p"] * 8, RESULTS), "names one patient for all 8 images"),
    "one hospital": (rows_of("path,patient,label", NAMES, ["42"] * 8, RESULTS), "names one patient for all 8 images"),
    "an exam of two patients": (
        rows_of("path,patient,exam,label", NAMES, PATIENTS, ["e1", "e1", "e2", "e2", "e1", "e3", "e4", "e4"], RESULTS),
        "'exam' gives 1 exams two patients or more: row 1 and row 5; correct it",
    ),
    "accession numbers mixed up": (
        rows_of("path,patient,accession,label", NAMES, PATIENTS, ["1", "1", "1", "1", "2", "2", "2", "2"], RESULTS),
        "gives 2 exams two patients",
    ),
    "two patients for an image": (
        rows_of("path,patient,label", ["0.png", *NAMES[:7]], PATIENTS[::-1], RESULTS[::-1]).replace(
            "1.png,p3", "0.png,p3"
        ),
        "rows of the same image give it another patient: row 1 and row 2",
    ),
    "two splits for an image": (
        rows_of(
            "path,patient,set,label",
            ["0.png", *NAMES[:7]],
            PATIENTS,
            ["train", "test", "train", "train", "train", "train", "val", "val"],
            RESULTS,
        ),
        "rows of the same image give it another split: row 1 and row 2",
    ),
    "a patient who is not known": (
        rows_of("path,patient,label", NAMES, [*PATIENTS[:6], "unbekannt", "Unknown"], RESULTS),
        r"row 7: column 'patient' must name the patient .* \(2 rows\)",
    ),
    "numbers in groups of three digits": (
        rows_of("path;patient;label", NAMES, ["1.001", "1001", *PATIENTS[2:]], RESULTS, separator=";"),
        "writes 1 patient numbers in several ways, .*: row 1 and row 2;",
    ),
    "a patient in two splits": (
        rows_of("path,patient,set,label", NAMES, PATIENTS, ["Training", "test", *["train"] * 5, ""], RESULTS),
        "column 'set' puts 1 patients into two splits: row 1 and row 2; put all images of a patient into one",
    ),
    "a patient in pre-training and test": (
        rows_of("path,patient,split,label", NAMES, PATIENTS, [*["test"] * 3, "unlabelled", *["val"] * 4], RESULTS),
        "column 'split' puts 1 patients into two splits: row 3 and row 4",
    ),
    "years of birth for ages": (
        rows_of("path,patient,age,label", NAMES, PATIENTS, ["1956"] * 8, RESULTS),
        r"row 1: column 'age' holds dates: a birthday .* \(8 rows\)",
    ),
    "birthdays for ages": (
        rows_of("path,patient,age,label", NAMES, PATIENTS, ["1950-03-04"] * 8, RESULTS),
        r"row 1: column 'age' holds dates: a birthday .* \(8 rows\)",
    ),
    "birthdays with dots": (
        rows_of("path,patient,Alter,label", NAMES, PATIENTS, ["4.3.1950"] * 8, RESULTS),
        "column 'Alter' holds dates",
    ),
    "two labels for an image": (
        rows_of("path,patient,label", ["0.png", *NAMES[:7]], ["p1", "p1", *PATIENTS[2:]], ["malignant", *RESULTS[1:]]),
        "row 2: gives the same image another pathology than .*row 1",
    ),
    "sides that are none": (
        rows_of("path,patient,side,label", NAMES, PATIENTS, ["L", "up", "up", "down", *"LRLR"], RESULTS),
        r"column 'side' names sides that are not known: up \(2\), down \(1\), first in row 2; write down",
    ),
    "views that are none": (
        rows_of(
            "path,patient,view,label", NAMES, PATIENTS, ["CC", "CCC", "CC", "CCC", "MLO", "MOL", "AT", "XCCL"], RESULTS
        ),
        r"column 'view' names views that are not known: CCC \(2\), MOL \(1\), first in row 2",
    ),
    "unknown words of three columns": (
        rows_of("path,patient,side,view,label", NAMES, PATIENTS, "LRLRLRLX", ["CCC"] * 8, [*RESULTS[:7], "odd"]),
        r"'side' .*: X \(1\), first in row 8; column 'view' .*: CCC \(8\), .*; column 'label' .*: odd \(1\), first",
    ),
    "splits that are none": (
        rows_of("path,patient,split,label", NAMES, PATIENTS, ["a", "a", *["train"] * 6], RESULTS),
        r"column 'split' names splits that are not known: a \(2\)",
    ),
    "a patient that is missing": (
        rows_of("path,patient,label", NAMES, ["", "NA", *PATIENTS[2:]], RESULTS),
        r"row 1: column 'patient' must name the patient in every row, also below merged cells \(2 rows\)",
    ),
    "a path that leaves the folder": (
        rows_of("path,patient,label", ["../out.png", *NAMES[1:]], PATIENTS, RESULTS),
        r"row 1: column 'path' names a file outside its folder: \.\./out\.png; give the folder",
    ),
    "a path that leaves it later": (
        rows_of("path,patient,label", [*NAMES[:7], "x/../../out.png"], PATIENTS, RESULTS),
        "row 8: column 'path' names a file outside",
    ),
    "a web page": ("<!DOCTYPE html>\n<html><body>Log in</body></html>", "is a web page, not a table"),
    "a table of a web page": ("<table><tr><td>path</td></tr></table>", "is a web page, not a table"),
    "a web page in capitals": ("\n\n<HTML>Not found</HTML>", "is a web page, not a table"),
    "nothing": ("", "has no columns"),
    "a header alone": ("path,patient,label\n", "has no rows"),
    "a ragged row": ("path,patient,label\n0.png,p1\n", "row 1: has 2 values for 3 columns"),
    "an unquoted comma": ("path,patient,label\n0.png,p1,benign, likely\n", "row 1: has 4 values for 3 columns"),
    "JSON": ('[{"path": "0.png", "patient": 1}]', "is JSON, not a table"),
    "an object in JSON": ('\n{"rows": [{"path": "0.png"}]}', "is JSON, not a table"),
    "a title above the header": (
        "Export of 2024\n" + rows_of("path,patient,label", NAMES, PATIENTS, RESULTS),
        r"row 1: names columns again \(path, patient, label\) below a line with Export of 2024; the header",
    ),
    "a title and an empty line": (
        "Films\n\n" + rows_of("path,patient,label", NAMES, PATIENTS, RESULTS),
        "row 2: .*remove what is above them",
    ),
    "a quotation mark that is not closed": (
        rows_of("path,patient,label", ["0.png", '"1.png', *NAMES[2:]], PATIENTS, RESULTS),
        "row 2: column 'path' has a quotation mark that is not closed; remove it",
    ),
    "one before a label": (
        rows_of("path,patient,label", NAMES, PATIENTS, [*RESULTS[:5], '"benign', *RESULTS[6:]]),
        "row 6: column 'label' has a quotation mark that is not closed; remove it",
    ),
    "one in the header": (
        rows_of('path,patient,"label', NAMES, PATIENTS, RESULTS),
        "row 0: column 'label.*' has a quotation mark that is not closed",
    ),
    "one that another row closes": (
        rows_of("path,patient,label", NAMES, ["p1", '"p1', "p2", '"p2', *PATIENTS[4:]], RESULTS),
        "column 'patient' has a line break in row 2: a quotation mark may not be closed",
    ),
    "one that another column closes": (
        rows_of(
            "path,patient,label", ["0.png", '"1.png', *NAMES[2:]], PATIENTS, [*RESULTS[:5], 'benign"', *RESULTS[6:]]
        ),
        "row 2: column 'path' has a quotation mark that is not closed",
    ),
    "a second header": (
        rows_of("Film,Person,Befund", ["path", *NAMES], ["patient", *PATIENTS], ["label", *RESULTS]),
        r"row 1: names columns again \(path, patient, label\) below a line with Film, Person, Befund",
    ),
    "merged cells above the header": (
        "case;left;;right;\nnumber;CC;MLO;CC;MLO\n1;0.png;1.png;2.png;3.png\n",
        r"row 1: names columns again \(number, CC, MLO, CC, MLO\) below a line with case, left, right; the header",
    ),
    "a cell of seventeen million characters": (
        "path,patient,label\n0.png,p1," + "x" * ((1 << 24) + 1),
        "row 1: has a cell",
    ),
    "a header of that": ("path,patient,label" + "x" * ((1 << 24) + 1) + "\n", "row 0: has a cell"),
    "no header": (
        rows_of("0.png,p1,benign", NAMES[1:], PATIENTS[1:], RESULTS[1:]),
        r"has values in its first line \(0\.png\), where the names of columns are to be; put them above it",
    ),
    "no header, DICOM": ("1;p1/a.dcm;1\n2;p2/b.dcm;0\n", r"has values in its first line \(p1/a\.dcm\)"),
    "row names of R": (
        rows_of("path,patient,label", "12345678", NAMES, PATIENTS, RESULTS),
        "row 1: has 4 values for 3 columns; .* name the first column too: R leaves it out",
    ),
    "a pointer of Git": (
        "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
        "is what Git leaves in place of a large file; fetch the table itself: git lfs pull",
    ),
    "two columns of files": (
        rows_of("raw,processed,patient,label", NAMES, NAMES[::-1], PATIENTS, RESULTS),
        "columns 'raw', 'processed' all name files: call the one of the images 'path'",
    ),
    "labels that are not sure": (
        rows_of("path,patient,label", NAMES, PATIENTS, ["benign?", *RESULTS[1:6], "?", "malignant ?"]),
        r"column 'label' has words that are not known: benign\? \(1\), malignant \? \(1\), first in row 1",
    ),
    "a number for none": (
        rows_of("path,patient,cancer", NAMES, PATIENTS, ["-1", *"0101010"]),
        r"column 'cancer' has words that are not known: -1 \(1\), first in row 1",
    ),
    "bounds of a grade": (
        rows_of("path,patient,birads", NAMES, PATIENTS, ["1", ">=4", "<3", *"12345"]),
        r"column 'birads' has words that are not known: >=4 \(1\), <3 \(1\), first in row 2",
    ),
    "two columns of labels that disagree": (
        rows_of("path,patient,diagnosis,result", NAMES, PATIENTS, RESULTS, [*RESULTS[:4], "NA", *RESULTS[6:], "B"]),
        "columns 'diagnosis' and 'result' disagree about the pathology, first in row 6: leave one of them out",
    ),
    "an odd word below empty rows": (
        "path,patient,label\n\n0.png,p1,benign\n,,\n\n1.png,p2,odd\n",
        r"words that are not known: odd \(1\), first in row 5; write",
    ),
    "a box below empty rows": (
        "path,patient,pathology,x,y,w,h\n0.png,p1,benign,1,1,2,2\n,,,,,,\n1.png,p2,malignant,left,1,2,2\n",
        "row 3: column 'x' must be a number of pixels",
    ),
    "corners of a box in the wrong order": (
        "path,patient,pathology,xmin,ymin,xmax,ymax\n0.png,p1,benign,8,8,7,7\n1.png,p2,malignant,1,1,2,2\n",
        "row 1: column 'ymax' must be greater than the first corner",
    ),
    "one image under two spellings of its path": (
        rows_of("path,patient,label", ["./0.png", ".\\0.PNG", *NAMES[2:]], ["p1", *PATIENTS[1:]], RESULTS).replace(
            "0.PNG,p1", "0.PNG,p9"
        ),
        "rows of the same image give it another patient: row 1 and row 2",
    ),
    "a spreadsheet in XML": (
        '<?xml version="1.0"?>\n<Workbook xmlns="urn:schemas-microsoft-com:office:spreadsheet"></Workbook>',
        r"is a spreadsheet in XML; open it and save it as \.xlsx",
    ),
    "answers that are none": (
        rows_of("path,patient,label", NAMES, PATIENTS, ["neg", "neg", "pos", "odd", *["neg"] * 4]),
        r"column 'label' has words that are not known: odd \(1\), first in row 4",
    ),
    "files with another ending": (
        rows_of("path,patient,label", [f"{name[0]}.dcm" for name in NAMES], PATIENTS, RESULTS),
        r"8 of 8 files .*; there is 0\.png: give the names the ending that the files have",
    ),
    "no file in any row": (
        rows_of("path,patient,label", [""] * 8, PATIENTS, RESULTS),
        "names no file in any of 8 rows; name the files; formulas of a workbook have values once",
    ),
    "no files": ("a,b\n1,2\n", r"no column names the images' files \(it has a, b\)"),
}


@pytest.mark.parametrize("way", REFUSED)
def test_messy_tables_are_refused_in_one_sentence(folder, way):
    text, problem = REFUSED[way]
    path = table(folder, text)
    (folder.parent / "out.png").write_bytes((folder / "0.png").read_bytes())
    with pytest.raises(DataError, match=problem) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("first", "second", "problem"),
    [
        (
            ["Films of 2024"],
            ["path", "patient", "label"],
            r"names columns again \(path, patient, label\) below .* 2024",
        ),
        (["case", "left", None, "right"], ["no", "CC", "MLO", "CC", "MLO"], r"again \(no, CC, MLO, CC, MLO\)"),
        (["path", "patient", "findings"], [None, None, "pathology", "BI-RADS"], r"again \(pathology, BI-RADS\)"),
    ],
)
def test_headers_of_two_rows_in_a_workbook(folder, first, second, problem):
    path = excel(folder, first, [second, *([name, "p", "benign", "2", "x"] for name in NAMES)])
    with pytest.raises(DataError, match=rf"labels\.xlsx, row 1: .*{problem}"):
        load(path)


def test_what_is_next_to_a_table_in_a_workbook_is_left_out(folder):
    rows = [
        [name, patient, result, None, "checked"] for name, patient, result in zip(NAMES, PATIENTS, RESULTS, strict=True)
    ]
    assert load(excel(folder, ["path", "patient", "label"], rows)).column("pathology") == list(RESULTS)


def test_a_draft_has_words_to_correct_and_cannot_be_loaded_until_they_are(folder, capsys):
    views = ["CC", "CCC", *["MLO"] * 6]
    path = table(folder, rows_of("path,patient,view,set,label", NAMES, PATIENTS, views, ["x"] * 8, RESULTS))
    assert main(["mapping", str(path)]) == 0
    draft = capsys.readouterr().out
    assert 'values = { CC = "CC", CCC = "?", MLO = "MLO" }' in draft
    (folder / "own.toml").write_text(draft)
    with pytest.raises(DataError, match=r"'set' must lead to .*: \? \(8\); column 'view' must be .*: \? \(1\);"):
        load(folder / "own.toml")
    (folder / "own.toml").write_text(draft.replace('CCC = "?"', 'CCC = "CC"').replace('x = "?"', 'x = "train"'))
    assert load(folder / "own.toml").column("view")[:3] == ["CC", "CC", "MLO"]


@pytest.mark.parametrize(
    "start", [b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"PK\x03\x04 no workbook", b"\x00\x01\x02\x00\x00"]
)
def test_files_that_are_no_tables(folder, start):
    for name in ("labels.csv", "labels.xls"):
        (folder / name).write_bytes(start)
        with pytest.raises(DataError, match=r"old Excel workbook|not a readable workbook|is not a text"):
            load(folder / name)


@pytest.mark.parametrize(
    ("accept", "text"),
    [
        ("patient_spellings", REFUSED["numbers of a spreadsheet"][0]),
        ("rounded_patients", REFUSED["rounded numbers"][0]),
        ("one_patient", REFUSED["one patient"][0]),
        ("exam_within_patient", REFUSED["an exam of two patients"][0]),
    ],
)
def test_what_is_refused_can_be_accepted(folder, accept, text):
    collection = load(table(folder, text), accept=accept)
    assert len(collection) == 8
    if accept == "exam_within_patient":
        assert collection[0]["exam"] != collection[4]["exam"]
    with pytest.raises(UsageError, match=r"accept: is 'nothing'; known: patient_spellings"):
        load(folder / "labels.csv", accept="nothing")


def test_an_exam_that_is_not_known_is_not_one(folder):
    text = rows_of("path,patient,exam,label", NAMES, ["KA", "KA", *PATIENTS[2:]], ["unknown", "inconnu"] * 4, RESULTS)
    assert load(table(folder, text)).column("exam") == [None] * 8


def test_paths_from_the_home_folder_and_as_addresses_are_read(folder, monkeypatch):
    films(folder / "home", ["a b.png", "c.png"])
    monkeypatch.setenv("HOME", str(folder / "home"))
    paths = ["~/c.png", (folder / "home" / "a b.png").as_uri(), *NAMES[2:]]
    collection = load(table(folder, rows_of("path,patient,label", paths, PATIENTS, RESULTS)))
    assert [Path(path).name for path in collection.column("path")[:2]] == ["c.png", "a b.png"]


def test_the_exam_is_hashed_alone_so_that_a_leak_shows(folder):
    text = rows_of(
        "path,patient,exam,label", NAMES, PATIENTS, ["e1", "e1", "e2", "e2", "e3", "e3", "e4", "e4"], RESULTS
    )
    one = load(table(folder, text))
    other = load(table(folder, text.replace("p1", "p9")))
    assert one[0]["patient"] != other[0]["patient"]
    assert one[0]["exam"] == other[0]["exam"]


@pytest.mark.parametrize(
    ("column", "words", "fact"),
    [
        ("side", "LRLRLRLR", "laterality"),
        ("view", ["CC", "MLO"] * 4, "view"),
        ("exam", ["e1", "e2", "e3", "e3", "e4", "e4", "e5", "e5"], "exam"),
    ],
)
def test_rows_of_one_image_that_contradict_each_other_are_left_out_and_listed(folder, column, words, fact):
    text = rows_of(f"path,patient,{column},label", ["0.png", *NAMES[:7]], ["p1", "p1", *PATIENTS[2:]], words, RESULTS)
    collection = load(table(folder, text))
    assert len(collection) == 6
    assert [reason for _, reason, _ in collection.rejected] == [f"gives its image another {fact}: row 1 and row 2"]
    assert "1 images are left out: their rows name two exams, sides or views" in collection.notes


UNKNOWN = ["NA", "n/a", "-", "NULL", "unbekannt", "", "#N/A", "None"]


def test_what_stands_for_unknown_is_unknown(folder):
    results = [*RESULTS[:4], *UNKNOWN[:4]]
    text = rows_of("path,patient,label,age", NAMES, PATIENTS, results, ["732M", "061Y", "90+", "90.5", *UNKNOWN[4:]])
    collection = load(table(folder, text))
    assert collection.column("pathology") == [*RESULTS[:4], None, None, None, None]
    assert collection.column("age_band")[:4] == ["60-69", "60-69", "80+", "80+"]
    assert set(collection.column("age_band")[4:]) == {None}


LABELS = {
    "cancer by its name": ("cancer", "0 1 0 1 0 1 0 1", {"cancer": ["no", "yes"]}),
    "malignant, yes and no": ("malignant", "nein ja nein ja nein ja nein ja", {"cancer": ["no", "yes"]}),
    "cancer in decimals": ("cancer", "0.0 1.0 0.0 1.0 0.00 1.0 0 1", {"cancer": ["no", "yes"]}),
    "density in decimals": ("density", "1.0 2.0 3.0 4.0 1.0 2.0 3.0 4.0", {"density": ["a", "b", "c", "d"]}),
    "a label of numbers": ("label", "0 1 0 1 0 1 0 1", {"label": ["0", "1"]}),
    "a class of several numbers": ("class", "2 1 0 1 0 1 0 2", {"class": ["0", "1", "2"]}),
    "normal breasts too": ("label", "normal benign malignant normal benign malignant normal normal", {
        "pathology": ["benign", "malignant"], "cancer": ["no", "yes"]}),
    "normal and cancer": ("diagnosis", " ".join(["normal cancer"] * 4), {"cancer": ["no", "yes"]}),
    "BI-RADS": ("assessment", "BI-RADS 1|birads4a|5|0|BI-RADS 1|birads4a|5|0", {"birads": ["1", "0", "4", "5"]}),
    "density": ("Dichte", "ACR A|acr b|C|4|ACR A|acr b|C|4", {"density": ["a", "b", "c", "d"]}),
    "density as the lexicon has it": (
        "density",
        "|".join(["entirely fatty", "Scattered fibroglandular", "heterogeneously dense", "extremely dense"] * 2),
        {"density": ["a", "b", "c", "d"]},
    ),
    "roman density": ("ACR", "I|II|III|IV|I|II|III|IV", {"density": ["a", "b", "c", "d"]}),
    "label is a BI-RADS": ("label", "BI-RADS 1|BI-RADS 2|BI-RADS 1|BI-RADS 2|BI-RADS 4|BI-RADS 4|BI-RADS 5|BI-RADS 5", {
        "birads": ["1", "2", "4", "5"]}),
}  # fmt: skip


@pytest.mark.parametrize("way", LABELS)
def test_labels_are_known_by_their_words(folder, way):
    name, words, tasks = LABELS[way]
    words = words.split("|" if "|" in words else " ")
    collection = load(table(folder, rows_of(f"path,patient,{name}", NAMES, PATIENTS, words)))
    assert {task["name"]: task["labels"] for task in collection.tasks} == tasks
    assert None not in collection.column(next(iter(tasks))) or "pathology" in tasks


def test_the_folder_of_the_images_may_be_another(tmp_path):
    films(tmp_path / "films", [f"a/{name}" for name in NAMES])
    path = table(tmp_path / "tables", rows_of("path,patient,label", NAMES, PATIENTS, RESULTS))
    with pytest.raises(DataError, match="TABLE:FOLDER"):
        load(path)
    assert len(load(path, tmp_path / "films")) == 8
    assert list(load(f"{path}:{tmp_path / 'films'}")) == list(load(path, tmp_path / "films"))


# Shapes


def test_a_cell_with_a_file_that_is_missing_is_left_out_and_named(folder):
    paths = [*map(";".join, PAIRS[:3]), "6.png;7.jpg"]
    collection = load(table(folder, rows_of("path,patient,label", paths, PATIENTS[::2], RESULTS[::2])))
    assert len(collection) == 6
    assert [(one.source[-5:], one.reason) for one in collection.rejected] == [("row 4", "there is no file 6.png;7.jpg")]


def test_whole_paths_lead_anywhere_in_an_own_table_alone_and_are_counted(folder):
    films(folder.parent / f"{folder.name}-elsewhere", NAMES[:1])
    away = str(folder.parent / f"{folder.name}-elsewhere" / "0.png")
    paths = [away, str(folder / "1.png"), *NAMES[2:]]
    path = table(folder, rows_of("path,patient,label", paths, PATIENTS, RESULTS))
    collection = load(path)
    assert collection.column("path")[:2] == paths[:2]
    assert "1 files are outside the folders of table and images, by their whole paths" in collection.notes
    own = 'images = {table = "labels.csv", path = "{path}"}\ncolumns = {patient = "{patient}"}\n'
    (folder / "public.toml").write_text(f'name = "public"\nlicence = "cc"\n{own}')
    with pytest.raises(DataError, match=rf"row 1: column 'path' names a file outside its folder: {away}"):
        load(folder / "public.toml")


def test_a_row_per_exam_with_a_column_per_view(tmp_path):
    views = ("LCC", "RCC", "LMLO", "RMLO")
    films(tmp_path, [f"{n}-{view}.png" for n in range(3) for view in views])
    lines = [f"p{n},{','.join(f'{n}-{view}.png' for view in views)},{('B', 'M')[n % 2]},B" for n in range(3)]
    text = "\n".join(["patient,L CC,R CC,L MLO,R MLO,left pathology,right pathology", *lines])
    collection = load(table(tmp_path, text))
    assert summary(collection, "laterality", "view")[:4] == [("L", "CC"), ("R", "CC"), ("L", "MLO"), ("R", "MLO")]
    assert collection.column("pathology")[4:8] == ["malignant", "benign", "malignant", "benign"]
    (tmp_path / "labels.csv").write_text(
        text.replace("1-RCC.png", "").replace("L CC,R CC", "left_cc_file,right_cc_file")
    )
    assert len(load(tmp_path / "labels.csv")) == 11


EXAMS = {
    "spanish": "Paciente;I CC;D CC;I MLO;D MLO;Diagnóstico",
    "french": "Patiente;G face;D face;G oblique;D oblique;Diagnostic",
    "german": "Patientin;li CC;re CC;li MLO;re MLO;Befund",
    "numbered": "patient;image 1;image 2;image 3;image 4;label",
    "kind in front": "patient;image_LCC;image_RCC;image_LMLO;image_RMLO;label",
    "german kind at the end": "Patientin;L CC-Bild;R CC-Bild;L MLO-Bild;R MLO-Bild;Befund",
    "kind at the end": "patient;LCC_path;RCC path;L-MLO file;rmlo.img;label",
}


@pytest.mark.parametrize("way", EXAMS)
def test_a_row_per_exam_in_other_languages_or_with_numbered_columns(tmp_path, capsys, way):
    films(tmp_path, [f"{n}-{view}.png" for n in range(3) for view in range(4)])
    lines = [f"p{n};{';'.join(f'{n}-{view}.png' for view in range(4))};{'BM'[n % 2]}" for n in range(3)]
    path = table(tmp_path, "\n".join([EXAMS[way], *lines]))
    collection = load(path)
    assert [Path(path).name for path in collection.column("path")] == [
        f"{n}-{v}.png" for n in range(3) for v in range(4)
    ]
    known = [("L", "CC"), ("R", "CC"), ("L", "MLO"), ("R", "MLO")]
    assert summary(collection, "laterality", "view")[:4] == ([(None, None)] * 4 if way == "numbered" else known)
    assert collection.column("pathology").count("malignant") == 4
    assert main(["mapping", str(path)]) == 0
    (tmp_path / "own.toml").write_text(capsys.readouterr().out)
    assert list(load(tmp_path / "own.toml")) == list(collection)


def test_a_row_per_exam_with_a_column_per_side(tmp_path):
    films(tmp_path, [f"{n}-{side}.png" for n in range(3) for side in "LR"])
    lines = [f"p{n};{n}-L.png;{n}-R.png;{'BM'[n % 2]};B" for n in range(3)]
    path = table(tmp_path, "\n".join(["Patientin;Bild links;Bild rechts;Dignität links;Dignität rechts", *lines]))
    collection = load(path)
    assert summary(collection, "laterality", "pathology") == [
        ("L", "benign"),
        ("R", "benign"),
        ("L", "malignant"),
        ("R", "benign"),
        ("L", "benign"),
        ("R", "benign"),
    ]


@pytest.mark.parametrize("column", ["Ordner", "patient"])
def test_names_that_are_there_in_each_folder_are_found_by_their_folder(tmp_path, column):
    paths = [f"{patient}/{view}.png" for patient in PATIENTS[::2] for view in ("cc", "mlo")]
    films(tmp_path / "films", paths)
    columns = (paths, [path[-6:].strip("/") for path in paths], PATIENTS, RESULTS)
    header = "Ordner,Datei,patient,label" if column == "Ordner" else "no,Datei,patient,label"
    lines = [
        (path[:2] if column == "Ordner" else "1", path[3:], *rest) for path, _, *rest in zip(*columns, strict=True)
    ]
    collection = load(table(tmp_path, "\n".join([header, *map(",".join, lines)])))
    assert collection.column("path") == [str(tmp_path / "films" / path) for path in paths]


def test_names_with_accents_are_the_same_however_a_disk_writes_them(tmp_path):
    names = [f"Übung {name}" for name in NAMES]
    films(tmp_path, [unicodedata.normalize("NFD", name) for name in names])
    written = [unicodedata.normalize("NFC", name) for name in names]
    assert len(load(table(tmp_path, rows_of("path,patient,label", written, PATIENTS, RESULTS)))) == 8


def test_a_link_out_of_the_folder_is_refused_unless_its_folder_or_the_whole_path_is_given(tmp_path):
    films(tmp_path / "disk" / "films", NAMES)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "images").symlink_to(tmp_path / "disk" / "films")
    (tmp_path / "own" / "0.png").symlink_to(tmp_path / "disk" / "films" / "0.png")
    paths = [f"images/{name}" for name in NAMES]
    path = table(tmp_path / "own", rows_of("path,patient,label", paths, PATIENTS, RESULTS))
    problem = f"row 1: column 'path' leads by a link to a file outside its folder: .*TABLE:{tmp_path}/disk/films, or"
    with pytest.raises(DataError, match=problem):
        load(path)
    assert load(f"{path}:{tmp_path / 'disk' / 'films'}").notes == []
    assert len(load(path, tmp_path / "disk")) == 8
    text = rows_of("path,patient,label", ["0.png", *paths[1:]], PATIENTS, RESULTS)
    with pytest.raises(DataError, match=r"row 1: .* leads by a link"):
        load(table(tmp_path / "own", text))
    whole = [str(tmp_path / "own" / path) for path in paths]
    assert len(load(table(tmp_path / "own", rows_of("path,patient,label", whole, PATIENTS, RESULTS)))) == 8
    (tmp_path / "entry").symlink_to(tmp_path / "disk" / "films")  # a link on the way to the table leaves nothing
    table(tmp_path / "disk" / "films", rows_of("path,patient,label", NAMES, PATIENTS, RESULTS))
    assert len(load(tmp_path / "entry" / "labels.csv")) == 8


def test_columns_that_are_not_read_are_listed(folder):
    text = rows_of(
        "path,patient,label,mask,Grading", NAMES, PATIENTS, RESULTS, [f"m{name}" for name in NAMES], "abcdefgh"
    )
    assert load(table(folder, text)).notes == ["columns of the table that are not read: mask, Grading"]
    for header in ("path,patient,Grading", "path,remark,Grading"):
        collection = load(table(folder, rows_of(header, NAMES, PATIENTS, RESULTS)))
        assert "no column of the table is known to hold labels: all images are unlabelled" in collection.notes
        assert any(note.endswith("Grading") for note in collection.notes)


def test_a_row_without_a_split_is_in_that_of_its_patient(folder):
    splits = ["train", "", "", "test", "-", "", "val", "validation"]
    collection = load(table(folder, rows_of("path,patient,split,label", NAMES, PATIENTS, splits, RESULTS)))
    assert collection.column("split") == [
        *["train"] * 2,
        *["test"] * 2,
        *["train"] * 2,
        *["validation"] * 2,
    ]


def test_ages_as_people_write_them(folder):
    ages = ["62 J.", "61 yrs", "40-49", "80+", "45 - 49", ">80", "62 años", "0x3E"]
    names = [f"p{number}" for number in range(8)]
    collection = load(table(folder, rows_of("path,patient,age,label", NAMES, names, ages, RESULTS)))
    assert collection.column("age_band") == ["60-69", "60-69", "40-49", "80+", None, None, "60-69", None]
    assert "3 ages cannot be read and are not known" in collection.notes


def test_a_row_per_breast_with_a_column_per_view(tmp_path):
    films(tmp_path, [f"{n}{side}{view}.png" for n in range(3) for side in "LR" for view in ("cc", "mlo")])
    lines = [f"p{n},{side},{n}{side}cc.png,{n}{side}mlo.png,{'BM'[n % 2]}" for n in range(3) for side in "LR"]
    collection = load(table(tmp_path, "\n".join(["patient,side,CC file,MLO file,label", *lines])))
    assert summary(collection, "laterality", "view")[:4] == [("L", "CC"), ("L", "MLO"), ("R", "CC"), ("R", "MLO")]
    assert collection.column("pathology").count("malignant") == 4


def test_a_row_per_breast_with_a_folder_or_a_pattern(tmp_path):
    films(tmp_path, [f"p{n}/{side}/{view}.png" for n in range(4) for side in "LR" for view in ("cc", "mlo")])
    sides = [(n, side) for n in range(4) for side in "LR"]
    columns = [[f"p{n}" for n, _ in sides], [side for _, side in sides], ["B", "B", "M", "B"] * 2]
    by_folder = table(tmp_path, rows_of("path,patient,side,pathology", [rf"P{n}\{s}" for n, s in sides], *columns))
    collection = load(by_folder)
    assert len(collection) == len(set(collection.column("image_id"))) == 16
    assert collection.column("pathology").count("malignant") == 4
    by_pattern = table(
        tmp_path, rows_of("path,patient,side,pathology", [f"p{n}/{s}/*.png" for n, s in sides], *columns)
    )
    assert load(by_pattern).column("path") == collection.column("path")


@pytest.mark.parametrize(
    ("header", "place"),
    [
        ("x,y,width,height", "1,2,3,4"),
        ("bbox_x,bbox_y,bbox_w,bbox_h", "1,2,3,4"),
        ("xmin,ymin,xmax,ymax", "1,2,4,6"),
        ("X1,Y1,X2,Y2", "1,2,4,6"),
    ],
)
def test_a_row_per_lesion_with_a_box(folder, header, place):
    lines = [f"{NAMES[n]},p{n},{result},{place}" for n, result in enumerate(RESULTS)]
    text = "\n".join([f"path,patient,pathology,{header}", *lines, "0.png,p0,malignant,5,5,9,25"])
    collection = load(table(folder, text))
    assert collection[0]["pathology"] == "malignant"
    first, second = collection[0]["findings"]
    assert (first["box"], first["pathology"]) == ([2, 1, 6, 4], "benign")
    assert second["pathology"] == "malignant"


# A folder alone, and the draft of a mapping


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_a_folder_of_images_is_enough(tmp_path, suffix):
    films(tmp_path / "films", [f"{n}.{suffix}" for n in range(3)])
    collection = load(tmp_path / "films")
    assert collection.column("split") == ["unlabelled"] * 3
    assert list(load(f"folder:{tmp_path / 'films'}")) == list(collection)
    table(tmp_path / "films", "path,patient,label\n")
    assert "the folder holds tables that are not read: labels.csv" in " ".join(load(tmp_path / "films").notes)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no known collection, and no image"):
        load(tmp_path / "empty")


def test_further_images_of_a_list_are_unlabelled(folder):
    films(folder / "more", ["a.png", "b.png"])
    (folder / "list.txt").write_text("more/a.png\nmore/b.png\n0.png\nabsent.png\n")
    path = table(folder, rows_of("path,patient,label,scanner", NAMES, PATIENTS, RESULTS, "AABBAABB"))
    collection = load(path, dicom_path=folder / "list.txt", stratum="scanner")
    assert collection.column("split") == ["train"] * 8 + ["unlabelled"] * 2
    assert collection.column("stratum") == [*"AABBAABB", None, None]
    assert any("absent.png" in entry.source for entry in collection.rejected)


@pytest.mark.parametrize("way", ["english", "german"])
def test_the_draft_of_a_mapping_is_a_mapping(folder, capsys, way):
    header, sides, views, results = LANGUAGES[way]
    side, view, result = (words.split(",") for words in (sides, views, results))
    path = table(
        folder, rows_of(header, NAMES, PATIENTS, side * 4, view * 4, ["62"] * 8, [result[n // 2 % 2] for n in range(8)])
    )
    assert main(["mapping", str(path)]) == 0
    text = capsys.readouterr().out
    (folder / "own.toml").write_text(text)
    assert read_mapping(folder / "own.toml").tasks == {"pathology": ("benign", "malignant")}
    assert list(load(folder / "own.toml")) == list(load(path))
    assert "p1" not in text
    assert f"'{header.split(',')[-1]}': 2 distinct, 0 missing; {result[0]} (4), {result[1]} (4)" in text


def test_the_draft_lists_what_is_not_understood_and_loads_once_it_is_put_in_order(folder, capsys):
    path = table(
        folder,
        rows_of("path,patient,Grading", NAMES, PATIENTS, ["low", "high", "mid", "low", "low", "high", "mid", "low"]),
    )
    assert load(path).column("split") == ["unlabelled"] * 8
    path = table(
        folder,
        rows_of("path,patient,label", NAMES, PATIENTS, ["low", "high", "mid", "low", "low", "high", "mid", "low"]),
    )
    assert main(["mapping", str(path)]) == 0
    text = capsys.readouterr().out
    assert "# To do: column 'label' has words that are not known: low (4), high (2), mid (2)" in text
    (folder / "own.toml").write_text(text.replace('labels = ["low", "high", "mid"]', 'labels = ["low", "mid", "high"]'))
    assert load(folder / "own.toml").tasks == [{"name": "label", "labels": ["low", "mid", "high"]}]
    assert set(load(folder / "own.toml").column("split")) == {"train"}
    assert main(["mapping", str(folder / "none.csv")]) in (1, 2)
    capsys.readouterr()


@pytest.mark.parametrize("columns", [("file", "pid", "diag"), ("path", "patient", "diagnosis")])
def test_a_mapping_of_another_table(folder, columns):
    path = table(folder, rows_of("path,patient,label", NAMES, PATIENTS, RESULTS))
    file, patient, result = columns
    text = f"""
        name = "own"
        licence = "own"
        images = {{ table = "labels.csv", path = "{{{file}}}" }}
        columns = {{ patient = "{{{patient}}}" }}
        tasks.pathology = "{{{result}}}"
    """
    (folder / "own.toml").write_text(text.replace('tasks.pathology = "', 'tasks.pathology.from = "'))
    problem = f"has no column '{result}'; it has path, patient, label; the mapping needs .*, and may be that of another"
    for given in (lambda: load(folder / "own.toml"), lambda: load(path, mapping=folder / "own.toml")):
        with pytest.raises(DataError, match=problem):
            given()


@pytest.mark.parametrize("wrong", [7, -0.1, "lots"])
def test_a_fraction_of_missing_files_that_is_none(folder, wrong):
    path = table(folder, rows_of("path,patient,label", NAMES, PATIENTS, RESULTS))
    with pytest.raises(UsageError, match=r"max_missing: is .*; it must be from 0 to 1"):
        load(path, max_missing=wrong)
    with pytest.raises(UsageError, match="stratum: the collection has no column 'veiw'; did you mean view"):
        load(path, stratum="veiw")


def test_no_such_table(tmp_path):
    with pytest.raises(MammoError, match=r"labels\.csv: no such file"):
        load(tmp_path / "labels.csv")
