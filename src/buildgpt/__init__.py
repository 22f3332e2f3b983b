"""Build GPT-2 from an empty file, then reproduce it for the price of a lunch."""

__version__ = "0.1.0"
