"""tsjax: a large model, the teacher, trains a small one, the student."""

__version__ = "0.1.0"
