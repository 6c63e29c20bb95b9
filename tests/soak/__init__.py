"""Real processes under load and random faults for minutes, then a verdict: was anything lost or doubled?"""
