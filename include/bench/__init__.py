"""What the platform's own ways cost beside the usual ones, measured side by side in one run.

A figure of one machine says little; a ratio whose two sides took turns on it says more.
"""
