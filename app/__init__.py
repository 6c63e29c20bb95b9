"""The web side of stormfold, and what web and workers agree on: settings, alerts, entries, broker."""
