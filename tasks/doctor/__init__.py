"""Looking at an installation as it stands: each check says ok, warn or fail, and how to mend it."""
