"""Comparing what the storms hold with what Alertmanager lists: nothing that fires is missed, nothing over is kept."""
