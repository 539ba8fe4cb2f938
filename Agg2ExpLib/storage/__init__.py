"""Files and folders that are either complete or not there: the only room that renames, locks and flushes."""
