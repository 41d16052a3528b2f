"""bora: turn a dexterous vision-language-action policy that half works into one that works."""

__version__ = "0.1.0"
