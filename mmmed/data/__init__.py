"""Reading, splitting, collating, hiding: from files and tables to packed batches."""
