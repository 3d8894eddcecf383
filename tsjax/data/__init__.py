"""Sources, splits, the order of examples, batches and views."""
