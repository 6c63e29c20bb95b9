"""Ratios that hold on any machine: stormfold beside a real Alertmanager, large storms beside small ones."""
