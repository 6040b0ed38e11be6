"""What a run is told: one file per method, its knobs and one call into training. A new method is one file here."""
