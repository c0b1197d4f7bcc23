"""The documentation site: ``python -m website``, or ``make docs``, builds it into ``site/`` without a network.

README, docs/*.md, CONTRIBUTING, CHANGELOG --+
methods, catalogues, public names -----------+--> build/website (Markdown) --> site/ (HTML) --> checked
"""
