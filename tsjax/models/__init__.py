"""Linen modules; one file a family, parameters boxed with logical axes."""
