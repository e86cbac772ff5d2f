"""CSV and TSV files: one form of table a file, all of them read through `table.py`."""
