"""What the runs in docs/findings have shown: docs/findings.md, made from committed records."""
