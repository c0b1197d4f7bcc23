"""Ground: what every other room builds on: errors, files, seeds, devices and settings."""
