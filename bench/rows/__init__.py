"""What is measured, in the table's order. A new row is one file and one line here."""

from bench.row import Row
from bench.rows import bulk, hot, issued, memory, refused, s3, tokens

ROWS: tuple[Row, ...] = (*hot.ROWS, *tokens.ROWS, *issued.ROWS, *refused.ROWS, *bulk.ROWS, *s3.ROWS, *memory.ROWS)
