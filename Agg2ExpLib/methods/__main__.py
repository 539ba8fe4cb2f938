"""``python -m Agg2ExpLib.methods``: the table of methods and options, as the documents have it."""

from Agg2ExpLib.methods.table import options_table

print(options_table())
