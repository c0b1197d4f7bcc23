"""The documentation site: ``python -m website``, or ``make docs``, builds it into ``site/``.

    README, docs/*.md, CONTRIBUTING, CHANGELOG --+
    methods, catalogues, public names -----------+--> Markdown --> HTML --> checked

The Markdown lies in ``build/website``. Nothing of it needs a network.
"""
