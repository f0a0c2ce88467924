"""Writes the synthetic customers as CSV (three encodings, two languages), XLSX, and what an importer must answer."""

import argparse
from pathlib import Path

from dossier_local import customer_files, customers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, metavar="OUTDIR")
    parser.add_argument("--rows", type=int, default=1000, help="good rows")
    parser.add_argument("--faulty", type=int, default=40, help="faulty rows among them")
    parser.add_argument("--seed", type=int, default=customers.SEED)
    arguments = parser.parse_args()
    made = customer_files.sheet(arguments.seed, arguments.rows, arguments.faulty)
    for path in customer_files.write(arguments.folder, made):
        print(path)


if __name__ == "__main__":
    main()
